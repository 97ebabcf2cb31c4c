"""What a noun phrase is to the things before it, and whether it belongs on their layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .chunks import Chunk
from .scene import Phrase, Relation, Thing

__all__ = ["How", "Use", "belongs"]

How = Literal["prep", "front", "with", "own", "object", "without"]
_BESIDE = ("front", "behind", "beside", "under", "above")


@dataclass(frozen=True)
class Use:
    """The role of the next noun phrase: ``sources`` are ``relation`` it. "front": the place comes before its thing."""

    how: How
    sources: tuple[Thing, ...] = ()
    relation: Relation = "none"
    text: str = ""


def belongs(use: Use, phrase: Phrase, sources: Sequence[Thing], after: Chunk) -> bool:
    """Whether a phrase is an attribute of its owners: a part, what is worn or carried, what a vessel holds.

    ``after``: the chunk that follows the phrase; what is placed by it ("with a tree behind it") stands alone.
    """
    living = any(thing.phrase.animate for thing in sources)
    if use.how != "with":
        own = phrase.role == "body" or (phrase.role == "clothing" and living)
        return own and use.relation not in ("front", "behind", "between")
    if phrase.role in ("part", "body") or (phrase.role == "clothing" and living):
        return True
    return _is_held(phrase, sources) or _is_carried(phrase, sources, after)


def _is_held(phrase: Phrase, sources: Sequence[Thing]) -> bool:
    """ "A vase with flowers"; "a vase with two roses" are three things."""
    return phrase.bare and phrase.role == "contents" and any(thing.phrase.role == "container" for thing in sources)


def _is_carried(phrase: Phrase, sources: Sequence[Thing], after: Chunk) -> bool:
    """ "A waiter with a tray" carries it; "a man with a tree behind him" does not, nor "a man with a dog"."""
    light = not phrase.animate and not phrase.place and phrase.size < 4
    placed = after.kind == "prep" and after.value in _BESIDE
    return light and not placed and all(thing.phrase.animate for thing in sources)
