"""What Chinese and Japanese sentences share: words without spaces, clauses between marks, nouns known by their endings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .chunks import Chunk
from .facts import facts_of
from .reader import read
from .scene import Phrase, Scene
from .segments import Segment
from .tokens import tokens

__all__ = ["Clause", "described", "is_place", "read_clauses"]


class Clause(ABC):
    """What stands between two marks of punctuation: its words, turned into chunks at the end of ``out``."""

    def __init__(self, found: list[Segment], out: list[Chunk]) -> None:
        self.words: list[Segment] = found
        self.out: list[Chunk] = out
        self.i: int = 0

    def _kind(self, ahead: int = 0) -> str:
        return self.words[self.i + ahead].kind if self.i + ahead < len(self.words) else ""

    def _text_from(self, start: int) -> str:
        return "".join(word.text for word in self.words[start : self.i])

    def run(self) -> None:
        while self.i < len(self.words):
            before = self.i
            self._step()
            self.i = max(self.i, before + 1)

    @abstractmethod
    def _step(self) -> None: ...

    @abstractmethod
    def _phrase(self) -> Phrase | None: ...

    def _phrases(self) -> list[Phrase]:
        """Noun phrases that are joined by "and"."""
        found: list[Phrase] = []
        while (phrase := self._phrase()) is not None:
            found.append(phrase)
            if self._kind() != "and":
                break
            self.i += 1
        return found

    def _place(self, targets: list[Phrase], relation: str, text: str) -> None:
        self.out.append(Chunk("prep", text, relation))
        for k, target in enumerate(targets):
            self.out += [Chunk("and")] if k else []
            self.out.append(Chunk("np", phrase=target))


def _meaning(noun: str, nouns: Mapping[str, str]) -> str:
    """By the longest known ending: 红木桌 is a 木桌."""
    return next((nouns[noun[k:]] for k in range(len(noun)) if noun[k:] in nouns), "")


def is_place(noun: str, nouns: Mapping[str, str]) -> bool:
    return facts_of(_meaning(noun, nouns)).get("place") == "place"


def described(body: Sequence[Segment], nouns: Mapping[str, str], sizes: Mapping[str, str]) -> dict[str, Any]:
    """modifiers, place, animate, role and size for Phrase. ``body``: the words of a noun phrase, the noun last."""
    found = tuple(sizes[word.text] for word in body if word.text in sizes)
    modifiers = tuple(word.text for word in body[:-1] if word.kind == "adjective")
    return {"modifiers": modifiers, **facts_of(_meaning(body[-1].text, nouns), found)}


def read_clauses(
    text: str, found: Scene, clause: Callable[[str, list[Chunk]], None], *, conjunction: str = ""
) -> Scene:
    """Fills the scene. ``clause`` appends the chunks of one clause; ``conjunction``: the comma that means "and"."""
    chunks: list[Chunk] = []
    for piece in _pieces(text, conjunction):
        if isinstance(piece, Chunk):
            chunks.append(piece)
        else:
            clause(piece, chunks)
    read(chunks, found, _describe)
    return found


def _pieces(text: str, conjunction: str) -> list[Chunk | str]:
    found: list[Chunk | str] = []
    for token in tokens(text):
        if token.kind in ("comma", "stop", "quote"):
            found.append(Chunk("and") if token.text == conjunction else Chunk(token.kind, token.text))
        elif found and isinstance(found[-1], str):
            found[-1] += token.text
        elif token.kind != "other":
            found.append(token.text)
    return found


def _describe(phrase: Phrase, adjective: str) -> Phrase:
    return replace(phrase, prompt=adjective + phrase.prompt)
