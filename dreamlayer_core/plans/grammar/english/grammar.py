"""An English sentence to a scene."""

from __future__ import annotations

from ..ellipsis import with_nouns, with_owners, without_collective
from ..reader import read
from ..scene import Scene, Thing
from ..tokens import tokens
from .chunker import chunks
from .noun_phrase import complete, describe
from .nouns import COLLECTIVES
from .relatives import with_relatives
from .setting import headed

__all__ = ["many", "scene"]

_SPELLED = "zero one two three four five six seven eight nine ten eleven twelve".split()


def scene(text: str) -> Scene:
    found = Scene()
    parts = with_owners(with_nouns(with_relatives(headed(chunks(tokens(text)))), complete), describe, found.owning)
    read(without_collective(parts, COLLECTIVES), found, describe)
    return found


def many(thing: Thing, number: int) -> str:
    """ "five red balls"."""
    spelled = _SPELLED[number] if number < len(_SPELLED) else str(number)
    return " ".join([spelled, thing.phrase.plural, *thing.extras])
