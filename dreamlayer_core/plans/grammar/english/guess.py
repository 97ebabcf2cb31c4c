"""What a word in no list may be, by its ending and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from ..tokens import Token
from . import things, words
from .inflection import is_plural, singular, verb
from .lexicon import is_adjective, is_noun, noun_facts
from .quantity import number_of, word_at

__all__ = ["acts", "can_modify", "is_content", "is_gerund_name", "looks_adjective", "noun_follows"]

_ADJECTIVE_ENDINGS = (
    "y", "ent", "ant", "ive", "al", "ic", "ous", "ful", "less", "ate", "en", "id", "ile", "ern", "ish", "some", "ular",
    "ory", "ary", "ine", "ward", "ese", "ian", "most",
)  # fmt: skip
_SHORTEST = 4
_RUN = 6  # words looked ahead: no noun phrase of a picture has more modifiers in a row


def is_content(word: str) -> bool:
    """A word that may stand within a noun phrase: none of the closed classes."""
    closed = (
        word in words.PREPOSITIONS or word in words.RELATIVES or word in words.DETERMINERS or word in words.BE
        or word in words.HAVE or word in words.PRONOUNS or word in words.NOT_NOUNS or word in words.VAGUE
    )  # fmt: skip
    return bool(word) and not closed and word not in ("and", "or") and not number_of(word)


def looks_adjective(word: str) -> bool:
    """ "greasy", "translucent", "cobwebbed": not a noun that is listed, and with an adjective's or participle's ending."""
    if len(word) < _SHORTEST or is_noun(word) or is_plural(word):
        return False
    form = verb(word)
    return word.endswith(_ADJECTIVE_ENDINGS) or (form is not None and form.form in ("ing", "ed"))


def can_modify(tokens: Sequence[Token], i: int) -> bool:
    """Whether the word at i describes what follows: an adjective, a participle or an adverb before one."""
    word = word_at(tokens, i)
    if is_adjective(word) or looks_adjective(word):
        return True
    following = word_at(tokens, i + 1)
    return word.endswith("ly") and (is_adjective(following) or looks_adjective(following))


def noun_follows(tokens: Sequence[Token], i: int) -> bool:
    """Whether the unbroken run that begins at i still has a noun to come."""
    for k in range(i, min(i + _RUN, len(tokens))):
        word = word_at(tokens, k)
        if not is_content(word):
            return False
        form = verb(word)
        if is_noun(word) or not (is_adjective(word) or form):
            return not (form is not None and form.form == "s" and not is_noun(word))
    return False


def acts(tokens: Sequence[Token], i: int, before: str) -> bool:
    """Whether a word after living plurals says what they do: "two kayakers paddle through a gorge"."""
    following = word_at(tokens, i + 1)
    goes_on = following in words.PREPOSITIONS or following in words.DETERMINERS
    return goes_on and is_plural(before) and not is_plural(word_at(tokens, i)) and bool(noun_facts(singular(before), before)["animate"])


def is_gerund_name(tokens: Sequence[Token], i: int) -> bool:
    """ "a wooden rocking horse": an -ing word that names a kind of thing, with its bare singular noun."""
    following = word_at(tokens, i + 1)
    named = word_at(tokens, i) in things.GERUNDS and is_noun(following)
    before = word_at(tokens, i - 1) if i else ""
    return named and (not is_plural(following) or not noun_facts(singular(before), before)["animate"])
