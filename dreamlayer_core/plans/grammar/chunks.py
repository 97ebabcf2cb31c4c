"""Chunks: what a language's chunker makes of its tokens, and all that the reader needs to know of a language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .scene import Phrase

__all__ = ["Chunk", "Kind"]

Kind = Literal[
    "np",  # noun phrase
    "headless",  # a noun phrase that lends its noun from the next or an earlier one: "a red [and a blue ball]"
    "prep",  # value: Relation; text: the preposition
    "verb",  # value: "own" (its object is an attribute), "plain", "stay" (sit, stand), "drop", or "lead" ("draw", no part of the picture)
    "be",  # is, are
    "have",  # has, have: "a man has a red hat"
    "and",
    "comma",
    "stop",
    "which",  # relative pronoun or conjunction: who, that, where
    "it",  # pronoun; value "it" or "them"
    "spot",  # value: left, top right, background, foreground...
    "adjective",  # predicative: "the ball is red"
    "mood",  # time or weather, for the background; text with its preposition
    "style",  # of the whole picture
    "there",  # there is
    "quote",
    "skip",
]


@dataclass(frozen=True)
class Chunk:
    kind: Kind
    text: str = ""
    value: str = ""
    phrase: Phrase | None = None
    finite: bool = False  # a verb that belongs to its clause's subject, unlike a participle
    plural: bool = False  # a finite verb whose subject is several: "a boy and a girl play"
