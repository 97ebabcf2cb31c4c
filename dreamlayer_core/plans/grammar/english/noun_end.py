"""Where an English noun phrase ends: which words can no longer belong to its modifiers and head."""

from __future__ import annotations

from collections.abc import Sequence

from ..tables import match_at
from ..tokens import Token
from . import nouns, words
from .guess import acts, is_content, is_gerund_name
from .inflection import is_plural, verb
from .lexicon import is_adjective, is_colour, is_noun, noun_facts
from .quantity import number_of, word_at

__all__ = ["ends_noun"]


def ends_noun(tokens: Sequence[Token], i: int, has_noun: bool, last: str, one: bool) -> bool:
    """Whether the word at i can no longer belong to the modifiers and head before it."""
    word = word_at(tokens, i)
    if match_at(words.PREPOSITION_PHRASES, tokens, i) or match_at(words.ATTRIBUTES, tokens, i):
        return True
    if (
        not word
        or word in words.PREPOSITIONS
        or word in words.RELATIVES
        or word in words.DETERMINERS
        or word in words.BE
    ):
        return not (word == "like" and not has_noun)
    if (
        word in words.HAVE
        or word in words.PRONOUNS
        or word in words.NOT_NOUNS
        or word in words.VAGUE
        or word in ("of", "and", "or")
    ):
        return True
    if not has_noun:
        form = None if is_noun(word) else verb(word)
        if form is None:
            return False
        if form.form == "s":  # "one sleeps"
            return is_noun(last) or is_colour(last) or last in ("one", "other", "another")
        return number_of(last) > 1 and form.form == "base" and not is_content(word_at(tokens, i + 1))  # "two play"
    if number_of(word) and word != "one":
        return True
    found = None if word in nouns.SINGULAR_S else verb(word)
    if word.endswith("ly") and not is_adjective(word) and not is_noun(word):
        return True
    if found is None and is_plural(word) and _is_predicate(tokens, i, last):
        return True  # "overalls bends over", "the dog nudges a": an unlisted verb
    if found is None and acts(tokens, i, last):
        return True  # "two kayakers paddle through"
    if found is None:
        return one and is_plural(word) and not is_noun(word) and not is_plural(last)
    if found.form == "ing":
        acting = word_at(tokens, i + 1) in words.DETERMINERS and bool(noun_facts(last, last)["animate"])  # "a troll crossing a"
        return acting or word not in nouns.ING_NOUNS and not is_gerund_name(tokens, i)
    if found.form == "ed":
        return word not in nouns.ED_NOUNS and not is_noun(word) and not (word == "shot" and not _goes_on(tokens, i + 1))
    if found.form == "s":
        being = bool(noun_facts(last, last)["animate"]) and not is_content(word_at(tokens, i + 1))  # "his apprentice watches"
        return not is_noun(word) if is_plural(last) else one or being or not is_noun(word)
    following = word_at(tokens, i + 1)
    if one and following in words.PREPOSITIONS and _opens(tokens, i):
        return False  # "a chimney sweep on a roof": one thing would sweep-s
    if not is_noun(word) and (
        following in words.PREPOSITIONS or following in words.DETERMINERS or number_of(following) or is_plural(following)
    ):
        return True  # "an apple and a book lie on", "a boy and a girl bake cookies"
    return is_plural(last) and not is_noun(word_at(tokens, i + 1))


def _opens(tokens: Sequence[Token], i: int) -> bool:
    """Whether the "a" of the noun phrase around i is the first of its clause, unlike in "a pen and a book lie"."""
    start = next((k for k in range(i - 1, -1, -1) if word_at(tokens, k) in ("a", "an")), 0)
    return start == 0 or tokens[start - 1].kind == "stop"


def _goes_on(tokens: Sequence[Token], i: int) -> bool:
    return is_content(word_at(tokens, i)) or word_at(tokens, i) in words.DETERMINERS


def _is_predicate(tokens: Sequence[Token], i: int, last: str) -> bool:
    following = word_at(tokens, i + 1)
    if is_plural(last):
        return not is_noun(word_at(tokens, i))
    return following in words.DETERMINERS and following != "that"
