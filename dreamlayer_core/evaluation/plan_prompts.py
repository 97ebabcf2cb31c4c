"""Whether a layer's prompt is clean: made of its sentence's words, whole, and saying its thing once."""

from __future__ import annotations

import os.path
import unicodedata
from collections.abc import Iterable, Sequence

from .plan_gold import Language
from .plan_words import Words, all_words, is_article, is_filler, occurrences, same_word, split_words

__all__ = ["prompt_flaws"]

_SHORTEST_STEM = 3
# What forms of one word end in, beside those of `plan_words`: a planner may turn "carries" into "carrying".
_ENDINGS: dict[Language, frozenset[str]] = {
    "en": frozenset(("", "s", "es", "e", "y", "ies", "ed", "d", "ied", "ing", "ying", "n", "en")),
    "de": frozenset(("", "e", "en", "t", "te", "ten", "end", "ende", "enden", "endes", "ender")),
    "fr": frozenset(("", "e", "es", "s", "er", "ent", "ant", "ante", "ants", "antes")),
    "zh": frozenset(),
    "ja": frozenset(),
}
# Function words beside articles and prepositions: they may join a thing's words where the sentence joins them otherwise.
_JOINING: dict[Language, frozenset[str]] = {
    "en": frozenset("of one or but as that which who is are".split()),
    "de": frozenset("aus oder aber als das ist sind einzeln".split()),
    "fr": frozenset("ou mais comme qui que est sont".split()),
    "zh": frozenset("一个只條条张座间辆位朵棵本艘匹头和与有"),
    "ja": frozenset("のにでとがをは"),
}
# More words after which a prompt breaks off.
_OPEN: dict[Language, frozenset[str]] = {
    "en": frozenset("against along among around behind beneath inside onto out outside through toward towards underneath "
                    "while".split()),
    "de": frozenset("durch gegen hinter neben ohne um während zwischen".split()),
    "fr": frozenset("chez entre parmi pendant sans vers".split()),
    "zh": frozenset(),
    "ja": frozenset(),
}
_NEGATIONS: dict[Language, tuple[str, ...]] = {
    "en": ("not", "no", "never", "without", "neither", "nor"),
    "de": ("nicht", "kein", "ohne", "nie", "weder"),
    "fr": ("pas", "sans", "jamais", "ni", "aucun"),
    "zh": ("不", "没", "無", "无"),
    "ja": ("ない", "無"),
}


def prompt_flaws(
    prompt: str, sentence: str, heads: Sequence[Words], attributes: Iterable[Sequence[Words]], language: Language
) -> tuple[str, ...]:
    """What is wrong with the words of a prompt, whatever it shows; nothing where it is clean.

    ``heads`` and ``attributes`` (of which each is a choice) are those of the object that it shows.
    """
    words, given, choices = split_words(prompt, language), split_words(sentence, language), tuple(attributes)
    own = (*heads, *(phrase for choice in choices for phrase in choice))
    known = {*given, *(word for phrase in own for word in phrase)}
    separator = "" if language in ("zh", "ja") else " "
    flaws = [f"{word!r} is not in the sentence" for word in words if not _is_known(word, known, language)]
    flaws += [f"{separator.join(said)!r} is not what the sentence denies" for said in _negated(words, language)
              if not occurrences(given, said, language, any_number=True)]
    last = all_words(prompt, language)[-1:]
    if last and not any(phrase[-1:] == last for phrase in own) and _is_open(last[0], language):
        flaws.append(f"it breaks off after {last[0]!r}")
    if _says_twice(words, heads, choices, language):
        flaws.append("it names its thing twice")
    return tuple(flaws)


def _is_known(word: str, known: Iterable[str], language: Language) -> bool:
    joins = is_filler(word, language) or word in _JOINING[language]
    kana = language == "ja" and "\u3041" <= word <= "\u309f"  # hiragana: the endings of Japanese words
    return joins or kana or any(_is_form_of(word, other, language) for other in known)


def _is_form_of(word: str, other: str, language: Language) -> bool:
    """Whether two words are one in two forms: "run" and "running", "puppies" and "puppy"."""
    if same_word(word, other, language) or occurrences((word,), (other,), language, any_number=True):
        return True
    if language == "en" and word.endswith("ying") and word[:-4] + "ie" in (other, other.removesuffix("s")):
        return True  # "lying" of "lies"
    word, other = _unaccented(word), _unaccented(other)
    stem, endings = os.path.commonprefix((word, other)), _ENDINGS[language]
    rests = [one[len(stem):] for one in (word, other)]  # "ning" of "running": the last letter may be doubled
    return len(stem) >= _SHORTEST_STEM and all(rest in endings or rest.removeprefix(stem[-1]) in endings for rest in rests)


def _unaccented(word: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


def _negated(words: Words, language: Language) -> list[Words]:
    """Every negation with the word after it, if there is one."""
    marks = [split_words(mark, language) for mark in _NEGATIONS[language]]
    return [words[start:start + len(mark) + 1] for mark in marks for start in occurrences(words, mark, language)]


def _is_open(word: str, language: Language) -> bool:
    return (is_filler(word, language) or is_article(word, language)
            or word in _OPEN[language] or (language not in ("zh", "ja") and word in _JOINING[language]))


def _says_twice(words: Words, heads: Sequence[Words], choices: Sequence[Sequence[Words]], language: Language) -> bool:
    """Whether a head stands there more often than in the object's own words: "toy train" is no second "train"."""

    def count(phrase: Words, head: Words) -> int:
        return len(occurrences(phrase, head, language, any_number=True))

    return any(
        count(words, head) > max(count(other, head) for other in heads) + sum(
            max(count(phrase, head) for phrase in choice) for choice in choices)
        for head in heads)
