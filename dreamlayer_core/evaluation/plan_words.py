"""Comparing the texts of plans: without case, articles and punctuation, and up to endings where a language has them."""

from __future__ import annotations

import os.path
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from .plan_gold import Language

__all__ = ["Words", "all_words", "content_units", "has_phrase", "is_article", "is_filler", "is_plural_of", "occurrences",
           "same_text", "same_word", "split_words", "trimmed", "without_phrases"]

Words: TypeAlias = tuple[str, ...]

_ARTICLES: dict[Language, frozenset[str]] = {
    "en": frozenset(("a", "an", "the")),
    "de": frozenset(("ein", "eine", "einem", "einen", "einer", "eines", "der", "die", "das", "dem", "den", "des")),
    "fr": frozenset(("un", "une", "le", "la", "les", "l", "des", "du", "d", "de")),
    "zh": frozenset(),
    "ja": frozenset(),
}
# Words of a phrase that say nothing about a thing.
_STOP: dict[Language, frozenset[str]] = {
    "en": frozenset("and at above below behind beside by during from full his her in into its near of off on over she he "
                    "their to under up with without between".split()),
    "de": frozenset("am an auf aus bei hinter im in mit und unter von vor zu zum zur über".split()),
    "fr": frozenset("à au aux avec contre dans derrière devant en et par pour sous sur".split()),
    "zh": frozenset("的"),
    "ja": frozenset("のにで"),
}
# What an inflected word may end in after the part that it shares with another form of itself.
_ENDINGS: dict[Language, frozenset[str]] = {
    "en": frozenset(),
    "de": frozenset(("", "e", "n", "r", "s", "m", "en", "er", "es", "em", "ern", "nen")),
    "fr": frozenset(("", "e", "s", "x", "es", "he", "hes", "le", "les", "ne", "nes", "se", "ses", "te", "tes")),
    "zh": frozenset(),
    "ja": frozenset(),
}
_SHORTEST_STEM = 3
_IRREGULAR = {
    "child": "children", "foot": "feet", "goose": "geese", "man": "men", "mouse": "mice", "ox": "oxen", "person": "people",
    "tooth": "teeth", "woman": "women",
}
_UNCHANGED = frozenset(("deer", "fish", "salmon", "sheep", "koi", "bison", "moose"))
# "a stretch of meadow": Chinese has measure words where English has articles.
_MEASURED = re.compile("^一[个個只隻条條片张張座间間辆輛位朵棵本艘匹头頭]")


def _characters_are_words(language: Language) -> bool:
    return language in ("zh", "ja")


def split_words(text: str, language: Language) -> Words:
    """The words of a text but articles, normalised; for Chinese and Japanese its characters."""
    return tuple(word for word in all_words(text, language) if not is_article(word, language))


def is_article(word: str, language: Language) -> bool:
    """Whether a normalised word is an article."""
    return word in _ARTICLES[language]


def is_filler(word: str, language: Language) -> bool:
    """Whether a normalised word, such as a preposition, says nothing about a thing."""
    return word in _STOP[language]


def all_words(text: str, language: Language) -> Words:
    """The words of a text, articles too, normalised; for Chinese and Japanese its characters."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    if _characters_are_words(language):
        return tuple(re.sub(r"[\W_]+", "", _MEASURED.sub("", plain)))
    plain = re.sub("['’]", "" if language == "en" else " ", plain)
    return tuple(word for word in re.split(r"[\W_]+", plain) if word)


def same_word(one: str, other: str, language: Language) -> bool:
    """Whether two normalised words are the same up to their endings (German and French)."""
    stem = os.path.commonprefix((one, other))
    endings = _ENDINGS[language]
    return one == other or (
        len(stem) >= _SHORTEST_STEM and one[len(stem):] in endings and other[len(stem):] in endings)


def same_text(one: Words, other: Words, language: Language) -> bool:
    """Whether two texts are the same, word for word."""
    return len(one) == len(other) and all(same_word(a, b, language) for a, b in zip(one, other, strict=True))


def _plurals(word: str) -> set[str]:
    """The plural forms an English noun may have."""
    if word in _UNCHANGED:
        return {word}
    for single, several in _IRREGULAR.items():
        if word == single or (len(single) > 2 and word.endswith(single)):
            return {word.removesuffix(single) + several}
    forms = {word + "s"}
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.add(word + "es")
    if word.endswith("y"):
        forms.add(word[:-1] + "ies")
    if word.endswith("f"):
        forms.add(word[:-1] + "ves")
    if word.endswith("fe"):
        forms.add(word[:-2] + "ves")
    return forms


def is_plural_of(several: str, single: str) -> bool:
    """Whether an English word is the plural of another: ``is_plural_of("geese", "goose")``."""
    return several in _plurals(single)


def _starts(words: Words, phrase: Words, language: Language, *, any_number: bool = False) -> Iterator[int]:
    """Where the phrase stands in the words, as one piece."""
    for start in range(len(words) - len(phrase) + 1 if phrase else 0):
        window = words[start:start + len(phrase)]
        last = same_word(window[-1], phrase[-1], language) or (
            any_number and _other_number(window[-1], phrase[-1], language))
        if last and same_text(window[:-1], phrase[:-1], language):
            yield start


def _other_number(one: str, other: str, language: Language) -> bool:
    return language == "en" and (is_plural_of(one, other) or is_plural_of(other, one))


def occurrences(words: Words, phrase: Words, language: Language, *, any_number: bool = False) -> tuple[int, ...]:
    """Where the phrase stands in the words; ``any_number``: see `has_phrase`."""
    return tuple(_starts(words, phrase, language, any_number=any_number))


def has_phrase(words: Words, phrase: Words, language: Language, *, any_number: bool = False) -> bool:
    """Whether the phrase stands in the words; ``any_number``: or its English plural, or the singular of its plural."""
    return next(_starts(words, phrase, language, any_number=any_number), None) is not None


def without_phrases(words: Words, phrases: Iterable[Words], language: Language) -> Words:
    """The words without the phrases, the longest first, nor a preposition that this leaves at an end."""
    for phrase in sorted(phrases, key=len, reverse=True):
        while (start := next(_starts(words, phrase, language), None)) is not None:
            before, after = words[:start], words[start + len(phrase):]
            words = before + after if before and after else trimmed(before + after, language)
    return words


def trimmed(words: Words, language: Language) -> Words:
    """The words without prepositions at the ends."""
    while words and words[0] in _STOP[language]:
        words = words[1:]
    while words and words[-1] in _STOP[language]:
        words = words[:-1]
    return words


def content_units(phrase: Words, language: Language) -> set[Words]:
    """What of a phrase would be seen in a picture: every word but prepositions; in Chinese and Japanese the whole."""
    if _characters_are_words(language):
        return {phrase} if phrase else set()
    return {(word,) for word in phrase if word not in _STOP[language]}
