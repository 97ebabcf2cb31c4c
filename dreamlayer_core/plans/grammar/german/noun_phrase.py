"""A German noun phrase, brought to the nominative: "vor einem blauen Würfel" -> "ein blauer Würfel"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..facts import facts_of
from ..plain_noun_phrase import Start, article_at, lower_at, start_at
from ..scene import Phrase
from ..tokens import Token
from . import words

__all__ = ["complete", "describe", "noun_phrase"]

_ENDINGS = ("en", "em", "er", "es", "e")
_ARTICLES = words.INDEFINITE | words.DEFINITE | words.POSSESSIVE
_FORMS = {"m": ("ein", "der", "er"), "f": ("eine", "die", "e"), "n": ("ein", "das", "es"), "p": ("", "die", "e")}
_KNOWN_BY_ARTICLE = {"einer": "f", "eine": "f", "einen": "m", "die": "f", "das": "n"}
_KNOWN_BY_ENDING = (
    (("ung", "heit", "keit", "schaft", "ion", "ei", "ik", "ur", "in"), "f"), (("chen", "lein", "um", "ment"), "n"), (("e",), "f"),
)  # fmt: skip


def _start(tokens: Sequence[Token], i: int) -> Start:
    article, i = article_at(tokens, i, _ARTICLES)
    word = lower_at(tokens, i)
    if word == "paar" or (word == "dutzend" and article):
        return Start(i + 1, "ein", 3 if word == "paar" else 12, word != "paar")
    return start_at(tokens, i, article, words.NUMBERS, words.VAGUE)


def _stem(adjective: str) -> str:
    for ending in _ENDINGS:
        if adjective.endswith(ending) and len(adjective) > len(ending) + 2 and adjective.lower() not in words.COLOURS:
            return adjective[: -len(ending)]
    return adjective


def _is_noun(token: Token) -> bool:
    return token.kind == "word" and token.text[:1].isupper()


def noun_phrase(tokens: Sequence[Token], i: int) -> tuple[Phrase, int] | None:
    start = _start(tokens, i)
    found: list[str] = []
    at = start.after
    while at < len(tokens) and tokens[at].kind == "word" and not _is_noun(tokens[at]):
        if tokens[at].lower == "und" and found and _joins(tokens, at):
            found.append("und")
        elif _is_function(tokens[at].lower) or not _looks_adjective(tokens[at].lower):
            break
        else:
            found.append(tokens[at].text)
        at += 1
    if at >= len(tokens) or not _is_noun(tokens[at]):
        lone = bool(found) and bool(start.article or start.count > 1)
        return (_headless(found, start), at) if lone else None
    if not i and tokens[at].lower in words.VERBS:
        return None
    contracted = i > 0 and tokens[i - 1].lower in words.WITH_ARTICLE
    phrase = _phrase(found, tokens[at].text, start, contracted)
    return replace(phrase, spoken=" ".join(token.text for token in tokens[i : at + 1])), at + 1


def _joins(tokens: Sequence[Token], at: int) -> bool:
    """ "rot und weiß gestreift", "roten und blauen Würfel": an adjective follows."""
    following = lower_at(tokens, at + 1)
    return bool(following) and _stem(following) in words.ADJECTIVES and not _is_noun(tokens[at + 1])


def _is_function(word: str) -> bool:
    return (
        word in words.PREPOSITIONS
        or word in words.KINDS
        or word in words.DEFINITE | words.INDEFINITE
        or word in ("links", "rechts")
    )


def _looks_adjective(word: str) -> bool:
    if word in words.VERBS and not word.endswith(("ende", "enden", "endes", "ender", "endem")):
        return False
    return (
        word.endswith(_ENDINGS)
        or _stem(word) in words.ADJECTIVES
        or word in ("sehr", "ganz", "leuchtend", "hell", "dunkel")
    )


def _headless(found: list[str], start: Start) -> Phrase:
    stems = tuple(_stem(word) for word in found)
    return Phrase(prompt=" ".join(found), head="", modifiers=stems, count=start.count, bare=not start.article)


def _known_end(noun: str, table: dict[str, str]) -> tuple[str, str]:
    """(what precedes the longest known ending, what the table has for it): Holztisch is a Tisch."""
    for begin in range(max(len(noun) - 2, 1)):
        if noun[begin:] in table:
            return noun[:begin], table[noun[begin:]]
    return noun, ""


def _singular(noun: str) -> str:
    lower = noun.lower()
    before, one = _known_end(lower, words.SINGULARS)
    if one:
        return (before + one).capitalize()
    if lower.endswith("innen"):
        return noun[:-3]
    if lower.endswith(("en", "n")) and lower[-2:-1] in ("e", "l", "r"):
        return noun[:-1] if lower.endswith("en") else noun
    return noun[:-1] if lower.endswith(("e", "s")) else noun


def _gender(noun: str, article: str) -> str:
    known = _known_end(noun.lower(), words.GENDERS)[1] or _KNOWN_BY_ARTICLE.get(article, "")
    return known or next((gender for ends, gender in _KNOWN_BY_ENDING if noun.lower().endswith(ends)), "m")


def _phrase(found: list[str], noun: str, start: Start, contracted: bool) -> Phrase:
    counted = start.count > 1
    lower = noun.lower()
    indefinite = start.article in words.INDEFINITE or start.article in words.POSSESSIVE
    plural = (
        counted
        or (not indefinite and lower in words.SINGULARS and lower not in words.GENDERS)
        or (not start.article and not contracted and lower in words.SINGULARS)
    )
    one = _singular(noun) if plural else _nominative(noun)
    stems = tuple(_stem(word) for word in found)
    gender = _gender(one, start.article)
    definite = start.article in words.DEFINITE or contracted
    form = "p" if plural and not counted else gender
    shown = _plural_nominative(noun) if form == "p" else one
    prompt = _prompt(found, stems, shown, form, definite and not counted, bool(start.article) or counted)
    sizes = tuple(words.SIZE_WORDS[stem] for stem in stems if stem in words.SIZE_WORDS)
    return Phrase(
        prompt=prompt, head=one.lower(), plural=_prompt(found, stems, _plural_nominative(noun), "p", False, False),
        modifiers=tuple(stem for stem in stems if stem != "und"), count=start.count, stated=start.stated, definite=definite,
        bare=not start.article and not counted, owned=start.article in words.POSSESSIVE, many=plural,
        **facts_of(_known_end(one.lower(), words.MEANINGS)[1], sizes),
    )  # fmt: skip


def _nominative(noun: str) -> str:
    """Without the genitive's -s ("des Bildes"); other singulars are spelled alike in all cases, the weak ones apart."""
    lower = noun.lower()
    return noun[:-2] if lower.endswith("es") and lower[:-2] in words.GENDERS else noun


def _plural_nominative(noun: str) -> str:
    lower = noun.lower()
    return noun[:-1] if lower.endswith("n") and lower[:-1] in words.SINGULARS else noun


def _prompt(found: Sequence[str], stems: Sequence[str], noun: str, form: str, definite: bool, article: bool) -> str:
    indefinite_article, definite_article, strong = _FORMS[form]
    ending = strong if not definite else "en" if form == "p" else "e"
    shown = [_with_ending(word, stem, ending) for word, stem in zip(found, stems, strict=True)]
    first = definite_article if definite else indefinite_article if article else ""
    return " ".join(part for part in (first, *shown, noun) if part)


def _with_ending(word: str, stem: str, ending: str) -> str:
    return word if word == stem else stem + ending  # "rosa", "und", "sehr" do not change


def complete(phrase: Phrase, noun: Phrase) -> Phrase:
    """A phrase without a noun takes that of another: "ein roter [Ball] und ein blauer Ball"."""
    form = _gender(noun.head, "")
    stems = [stem for stem in phrase.modifiers if stem != "und"]
    shown = " ".join([*(stem + _FORMS[form][2] for stem in stems), noun.head.capitalize()])
    prompt = shown if phrase.bare else f"{_FORMS[form][0]} {shown}".strip()
    return replace(noun, prompt=prompt, modifiers=tuple(stems), count=phrase.count, many=False, definite=False)


def describe(phrase: Phrase, adjective: str) -> Phrase:
    """ "Der Ball ist rot": der rote Ball."""
    stem = _stem(adjective)
    if stem in phrase.modifiers:
        return phrase
    before, _, noun = phrase.prompt.rpartition(" ")
    ending = "e" if before.split(" ")[0] in ("der", "die", "das") else _FORMS[_gender(phrase.head, "")][2]
    return replace(phrase, prompt=f"{before} {stem}{ending} {noun}".strip(), modifiers=(*phrase.modifiers, stem))
