"""What a noun phrase is to the things before it, and whether it belongs on their layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .chunks import Chunk
from .lookahead import LARGE
from .scene import Phrase, Relation, Thing

__all__ = ["How", "Use", "belongs"]

How = Literal["prep", "front", "with", "own", "object", "without"]
_COMPANY = ("featuring", "plus")
_BESIDE = ("front", "behind", "beside", "under", "above", "between")


@dataclass(frozen=True)
class Use:
    """The role of the next noun phrase: ``sources`` are ``relation`` it. "front": the place comes before its thing."""

    how: How
    sources: tuple[Thing, ...] = ()
    relation: Relation = "none"
    text: str = ""
    doing: bool = False  # after a verb: "leaning on a staff", unlike "a bee on a hat"


def belongs(use: Use, phrase: Phrase, sources: Sequence[Thing], after: Chunk) -> bool:
    """Whether a phrase is an attribute of its owners: a part, what is worn or carried, what a vessel holds.

    ``after``: the chunk that follows the phrase; what is placed by it ("with a tree behind it") stands alone.
    """
    living = any(thing.phrase.animate for thing in sources)
    if use.how != "with":
        borne = use.how == "own" or use.relation == "in" or (use.relation == "on" and (use.doing or phrase.many))
        worn = phrase.role == "clothing" and living and borne
        own = phrase.role == "body" or worn or _is_own(phrase, living)
        return own and (use.relation not in ("front", "behind", "between") or (phrase.owned and phrase.role == "body"))
    if phrase.role in ("part", "body") or (phrase.role == "clothing" and living):
        return True
    return _is_carried(phrase, sources, use.text, after)


def _is_own(phrase: Phrase, living: bool) -> bool:
    """ "Leaning on his shovel", "a van with a surfboard on its roof"; "in front of his house" and "on her bed" are places."""
    part = phrase.role == "part" or (living and phrase.size < 3 and phrase.role != "container")
    return phrase.owned and part and not phrase.animate and (not phrase.place or phrase.role == "part")


def _is_carried(phrase: Phrase, sources: Sequence[Thing], text: str, after: Chunk) -> bool:
    """ "A waiter with a tray", "a cake with candles"; not "with a tree behind him", "together with a box", "a beach with a tent"."""
    tower = phrase.head in ("tower", "turret") and all(thing.phrase.place == "building" for thing in sources)  # of a church
    light = not phrase.animate and (tower or (not phrase.place and phrase.size < 4))
    placed = after.kind == "prep" and after.value in _BESIDE
    if phrase.size >= LARGE and any(thing.phrase.place == "building" for thing in sources):
        return tower  # "a cabin with a hammock"
    bearers = all(thing.phrase.animate or thing.phrase.place in ("", "building") for thing in sources)
    return light and not placed and bearers and " " not in text and text not in _COMPANY
