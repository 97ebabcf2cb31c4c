"""A French noun phrase: article, adjectives before and after the noun, and what "de", "à" and "en" add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..facts import facts_of
from ..plain_noun_phrase import Start, article_at, lower_at, start_at
from ..scene import Phrase
from ..tokens import Token
from . import words

__all__ = ["complete", "describe", "noun_phrase"]

_ARTICLES = words.INDEFINITE | words.DEFINITE | words.POSSESSIVE
_FUNCTION = frozenset(words.PREPOSITIONS) | frozenset(words.KINDS) | _ARTICLES
_FEMININE = ("e", "ion", "té")
_MATERIAL = frozenset(
    "bois métal pierre verre cuir plastique or argent laine soie papier marbre brique fer bronze carton coton".split()
)


def _start(tokens: Sequence[Token], i: int) -> Start:
    article, i = article_at(tokens, i, _ARTICLES)
    word = lower_at(tokens, i)
    if (
        word in words.COLLECTIVES
        and lower_at(tokens, i + 1) in ("de", "d'")
        and lower_at(tokens, i + 2) not in ("lunettes", "chaussures")
    ):
        return Start(i + 2, "un", words.COLLECTIVES[word])
    return start_at(tokens, i, article, words.NUMBERS, words.VAGUE)


def _singular(word: str) -> str:
    lower = word.lower()
    if lower in words.GENDERS or lower in ("gris", "gros", "vieux", "roux", "bas", "épais"):
        return word
    if lower == "yeux":
        return word
    if lower.endswith(("eaux", "eux", "œux", "oux")):
        return word[:-1]
    if lower.endswith("aux"):
        return word[:-3] + "al"
    return word[:-1] if lower.endswith("s") and len(lower) > 3 else word


def _gender(noun: str, article: str) -> str:
    if article in ("un", "le", "ce", "cet", "mon", "son"):
        return "m"
    if article in ("une", "la", "cette"):
        return "f"
    known = words.GENDERS.get(noun.lower(), "")
    return known or ("f" if noun.lower().endswith(_FEMININE) else "m")


def _is_adjective(word: str) -> bool:
    """What follows a noun and is no function word or verb describes it."""
    return (
        bool(word)
        and word not in _FUNCTION
        and word not in words.VERBS
        and word not in words.NUMBERS
        and not word.isdecimal()
    )


def noun_phrase(tokens: Sequence[Token], i: int) -> tuple[Phrase, int] | None:
    start = _start(tokens, i)
    at = start.after
    before: list[str] = []
    while lower_at(tokens, at) in words.BEFORE:
        before.append(tokens[at].text)
        at += 1
    noun = lower_at(tokens, at)
    bare = not start.article and start.count == 1
    if not noun or noun in _FUNCTION or (noun in words.VERBS and bare) or noun.isdecimal():
        return None
    if (
        noun in words.COLOURS
        and (noun not in words.GENDERS or start.article == "")
        and (start.article or start.count > 1)
    ):
        return Phrase(prompt=noun, head="", modifiers=(*before, _singular(noun)), count=start.count), at + 1
    if bare and not before and _singular(noun) not in words.GENDERS:
        return None
    after, adjectives = _adjectives(tokens, at + 1)
    tail_end = _tail(tokens, after)
    tail = [token.text for token in tokens[after:tail_end]]
    phrase = _phrase(before, tokens[at].text, adjectives, tail, start)
    return replace(phrase, spoken=_spaced([token.text for token in tokens[i:tail_end]])), tail_end


def _adjectives(tokens: Sequence[Token], at: int) -> tuple[int, list[str]]:
    found: list[str] = []
    while at < len(tokens):
        word = lower_at(tokens, at)
        if (
            word == "et"
            and found
            and lower_at(tokens, at + 1) in words.COLOURS
            and _is_adjective(lower_at(tokens, at + 1))
        ):
            found.append("et")
        elif word == "très" and _is_adjective(lower_at(tokens, at + 1)):
            found.append(word)
        elif (
            not _is_adjective(word)
            or word in words.BEFORE
            or (_singular(word) in words.GENDERS and word not in words.COLOURS)
        ):
            break
        else:
            found.append(tokens[at].text)
        at += 1
    return at, found


def _tail(tokens: Sequence[Token], at: int) -> int:
    """Past "de pommes", "en bois", "à rayures bleues"; the same index where nothing of the kind follows."""
    word, following = lower_at(tokens, at), lower_at(tokens, at + 1)
    material = word == "en" and following in _MATERIAL
    content = word in ("de", "d'", "du") and following and following not in _FUNCTION
    part = (
        word in ("à", "aux")
        and _singular(following) in words.GENDERS
        and words.MEANINGS[_singular(following)] in ("stripes", "dots", "hair", "eyes", "wheel")
    )
    of_the = word == "de" and following in ("la", "l'") and _is_adjective(lower_at(tokens, at + 2))
    if not (material or content or part or of_the):
        return at
    if of_the or (content and following in words.BEFORE and _is_adjective(lower_at(tokens, at + 2))):
        at += 1
    return _adjectives(tokens, at + 2)[0]


def _spaced(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part).replace("' ", "'").replace("’ ", "’")


def _phrase(before: list[str], noun: str, after: list[str], tail: list[str], start: Start) -> Phrase:
    counted = start.count > 1
    one = _singular(noun)
    meaning = words.MEANINGS.get(one.lower(), "")
    if meaning == "room" and tail[:1] == ["à"]:
        meaning = "kitchen"
    many = counted or start.article in ("des", "les", "ses", "ces", "leurs") or (one != noun and not start.article)
    gender = _gender(one, start.article if not counted else "")
    modifiers = tuple(_singular(word).lower() for word in (*before, *after) if word != "et")
    if counted:
        shown = [*map(_singular, before), one, *map(_singular, after), *tail]
        prompt = _spaced(["une" if gender == "f" else "un", *shown])
    else:
        article = (
            start.article if start.article not in words.POSSESSIVE else "" if many else "une" if gender == "f" else "un"
        )
        prompt = _spaced([article, *before, noun, *after, *tail])
    sizes = tuple(words.SIZE_WORDS[word] for word in modifiers if word in words.SIZE_WORDS)
    return Phrase(
        prompt=prompt, head=one.lower(), plural=_spaced([*before, noun, *after, *tail]), modifiers=modifiers, count=start.count,
        stated=start.stated, definite=start.article in words.DEFINITE, bare=not start.article and not counted,
        owned=start.article in words.POSSESSIVE, many=many, **facts_of(meaning, sizes),
    )  # fmt: skip


def complete(phrase: Phrase, noun: Phrase) -> Phrase:
    """A phrase without a noun takes that of another: "une [balle] bleue"."""
    article = "une" if _gender(noun.head, "") == "f" else "un"
    prompt = _spaced([article, noun.head, *phrase.modifiers])
    return replace(noun, prompt=prompt, modifiers=phrase.modifiers, count=phrase.count, many=False, definite=False)


def describe(phrase: Phrase, adjective: str) -> Phrase:
    """ "La balle est rouge": la balle rouge."""
    if _singular(adjective) in phrase.modifiers:
        return phrase
    return replace(phrase, prompt=f"{phrase.prompt} {adjective}", modifiers=(*phrase.modifiers, _singular(adjective)))
