"""Chunks of languages whose function words are tables: German and French."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from .chunks import Chunk, Kind
from .scene import Phrase
from .tables import Fixed, match_at
from .tokens import Token

__all__ = ["NounPhrase", "Tongue", "chunks"]

NounPhrase = Callable[[Sequence[Token], int], "tuple[Phrase, int] | None"]
"""(tokens, index) -> (phrase, index after it); a phrase without a head lends its noun."""


@dataclass(frozen=True)
class Tongue:
    """A language's closed classes. ``fixed``: kind -> phrases; ``verbs``: form -> (use, participle)."""

    fixed: Mapping[Kind, Fixed]
    prepositions: Mapping[str, str]
    single: Mapping[str, Kind]  # and, is, has, who...
    verbs: Mapping[str, tuple[str, str]]
    adjectives: frozenset[str]
    pictures: frozenset[str]  # "ein Foto von"
    of: frozenset[str]
    noun_phrase: NounPhrase


def _fixed(tongue: Tongue, tokens: Sequence[Token], i: int) -> tuple[Chunk, int] | None:
    best: tuple[Chunk, int] | None = None
    for kind, table in tongue.fixed.items():
        match = match_at(table, tokens, i)
        if match is not None and (best is None or match[0] > best[1] - i):
            text = " ".join(token.text for token in tokens[i : i + match[0]]).replace("' ", "'")
            best = Chunk(kind, text, match[1]), i + match[0]
    if best is None:
        return None
    chunk, after = best
    if chunk.value == "swallow":
        while after < len(tokens) and tokens[after].kind not in ("comma", "stop"):
            after += 1
    return (replace(chunk, text=f" {chunk.text}") if chunk.kind == "mood" else chunk), after


def _picture_of(tongue: Tongue, tokens: Sequence[Token], i: int, found: list[Chunk]) -> int:
    """The index after "ein Ölgemälde von", or 0."""
    if found and found[-1].kind not in ("stop", "comma"):
        return 0
    for end in range(i, min(i + 4, len(tokens) - 1)):
        if tokens[end].lower in tongue.pictures and tokens[end + 1].lower in tongue.of:
            found.append(Chunk("style", tokens[end].text))
            return end + 2
    return 0


def chunks(tongue: Tongue, tokens: Sequence[Token]) -> list[Chunk]:
    found: list[Chunk] = []
    i = 0
    while i < len(tokens):
        i = _step(tongue, tokens, i, found)
    return found


def _step(tongue: Tongue, tokens: Sequence[Token], i: int, found: list[Chunk]) -> int:
    token = tokens[i]
    if token.kind in ("comma", "stop", "quote"):
        found.append(Chunk(token.kind, token.text))
        return i + 1
    if after := _picture_of(tongue, tokens, i, found):
        return after
    if fixed := _fixed(tongue, tokens, i):
        found.append(fixed[0])
        return fixed[1]
    word = token.lower
    if word in tongue.single:
        found.append(Chunk(tongue.single[word], word, "it" if tongue.single[word] == "it" else ""))
        return i + 1
    if word in tongue.prepositions:
        found.append(Chunk("prep", word, tongue.prepositions[word]))
        return i + 1
    if word in tongue.verbs and (token.text == word or i == 0):  # German nouns are capitals: ein Park, er parkt
        use, participle = tongue.verbs[word]
        found.append(Chunk("verb", participle, use, finite=True))
        return i + 1
    if parsed := tongue.noun_phrase(tokens, i):
        phrase, after = parsed
        found.append(Chunk("np" if phrase.head else "headless", phrase.prompt, phrase=phrase))
        return after
    if word in tongue.adjectives and found and found[-1].kind in ("be", "and", "adjective"):
        found.append(Chunk("adjective", token.text))
    return i + 1
