"""How many: articles, numbers and words like "a pair of" before an English noun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..tokens import Token
from . import nouns, things, words
from .inflection import singular, verb
from .lexicon import noun_facts

__all__ = ["Quantity", "number_of", "quantity_at", "word_at"]


@dataclass(frozen=True)
class Quantity:
    after: int
    count: int = 1
    stated: bool = True
    determiner: str = ""


def word_at(tokens: Sequence[Token], i: int) -> str:
    return tokens[i].lower if i < len(tokens) and tokens[i].kind in ("word", "number") else ""


def number_of(word: str) -> int:
    return int(word) if word.isdecimal() and len(word) <= 6 else words.NUMBERS.get(word, 0)


def quantity_at(tokens: Sequence[Token], i: int) -> Quantity:
    """ "two", "the two", "a pair of", "a dozen", "several", "both", "a", "his"."""
    start = i
    if [word_at(tokens, i + k) for k in range(3)] == ["half", "a", "dozen"]:
        return Quantity(i + 3, 6, True, "a")
    while word_at(tokens, i) in words.BEFORE_NUMBER and (
        number_of(word_at(tokens, i + 1)) or word_at(tokens, i + 1) in words.DETERMINERS
    ):
        i += 1
    determiner = word_at(tokens, i) if word_at(tokens, i) in words.DETERMINERS else ""
    i += bool(determiner)
    here, of = word_at(tokens, i), word_at(tokens, i + 1) == "of"
    if here == "pair" and of and _is_one_pair(tokens, i + 2):
        return Quantity(i, determiner=determiner)
    if here in (
        "few",
        "couple",
        "dozen",
        "pair",
        "trio",
        "hundred",
        "lot",
        "lots",
        "plenty",
        "number",
        "dozens",
        "hundreds",
    ):
        return _collective(here, i + 1 + of, of, determiner) or Quantity(i, determiner=determiner)
    if number := number_of(here):
        multiplied = word_at(tokens, i + 1) in ("hundred", "thousand", "dozen")
        number *= words.NUMBERS[word_at(tokens, i + 1)] if multiplied else 1
        after = i + 1 + multiplied
        after += word_at(tokens, after) == "of" and word_at(tokens, after + 1) in (
            "the",
            "his",
            "her",
            "their",
            "these",
        )
        return Quantity(after, number, True, determiner or "a")
    if here in words.VAGUE and not determiner:
        return Quantity(i + 1, words.VAGUE[here], False, "some")
    return Quantity(i if determiner else start, determiner=determiner)


def _is_one_pair(tokens: Sequence[Token], i: int) -> bool:
    """ "a pair of red shoes" is one thing, "a pair of dogs" two."""
    last = ""
    while (word := word_at(tokens, i)) and word not in words.PREPOSITIONS and word not in ("and", "or") and not _acts(word):
        last, i = word, i + 1
    return last in nouns.PAIRED or last in things.GEAR or (bool(last) and not noun_facts(singular(last), last)["animate"])


def _acts(word: str) -> bool:
    form = verb(word)
    return form is not None and form.form != "ing"  # "a pair of gardening gloves"


def _collective(word: str, after: int, of: bool, determiner: str) -> Quantity | None:
    if word in ("pair", "trio", "couple", "number", "lot") and not of:
        return None
    known = {"pair": 2, "couple": 2, "trio": 3, "dozen": 12, "hundred": 100}
    return Quantity(after, known.get(word, 3 if word == "few" else 5), word in known, determiner or "a")
