"""Relative clauses about what their noun suffers: "a rock that a cactus hides", "the cabinet that my grandfather built"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..chunks import Chunk
from .words import HIDING_FORMS, UNSEEN

__all__ = ["with_relatives"]

_LINKS = ("that", "which", "whom")


def with_relatives(chunks: Sequence[Chunk]) -> list[Chunk]:
    """What hides a thing is in front of it; who made, lost or left it is not in the picture."""
    found: list[Chunk] = []
    i = 0
    while i < len(chunks):
        done, after = _suffered(chunks, i)
        if done is None:
            found.append(chunks[i])
            i += 1
        elif done.text in HIDING_FORMS:
            found += [Chunk("prep", "behind", "behind"), chunks[i + 1]]
            i = after
        elif not done.finite and done.kind == "verb":
            i = after
        else:
            found.append(chunks[i])
            i += 1
    return found


def _suffered(chunks: Sequence[Chunk], i: int) -> tuple[Chunk | None, int]:
    """The verb of a clause that begins at i, has a subject of its own and no object; and the index after it."""
    spoken = chunks[i].kind == "it" and chunks[i].text in ("he", "she", "they") and i and chunks[i - 1].kind == "np"
    if spoken and chunks[i + 1 : i + 2] and chunks[i + 1].kind == "verb" and (i + 2 == len(chunks) or chunks[i + 2].kind != "np"):
        return replace(chunks[i + 1], finite=False), i + 2  # "a chest he stole"
    if chunks[i].kind != "which" or chunks[i].text not in _LINKS or not i or chunks[i - 1].kind != "np":
        return None, i
    if i + 2 < len(chunks) and chunks[i + 1].text in UNSEEN and chunks[i + 2].kind == "verb":
        return replace(chunks[i + 2], finite=False), i + 3
    rest = [chunk for chunk in chunks[i + 1 : i + 5] if chunk.kind != "skip"]
    if len(rest) < 2 or rest[0].kind != "np" or rest[1].kind != "verb":
        return None, i
    if len(rest) > 2 and rest[2].kind in ("np", "it", "quote"):
        return None, i
    return rest[1], chunks.index(rest[1], i) + 1
