"""What follows and precedes the chunk that is being read."""

from __future__ import annotations

from collections.abc import Sequence

from .chunks import Chunk

__all__ = ["LARGE", "Lookahead"]

_PREDICATES = ("verb", "be", "have", "spot", "which")
LARGE = 3  # a size that carries things of its own


class Lookahead:
    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self.at = 0

    def _next(self, steps: int = 1) -> Chunk:
        place = self.at + steps
        return self.chunks[place] if 0 <= place < len(self.chunks) else Chunk("stop")

    def _has_predicate(self) -> bool:
        """Whether the phrase here goes on to say something of its own, as in "and a cat under a table"."""
        after = self._next()
        if after.kind != "prep":
            return after.kind in _PREDICATES
        if after.value == "with":
            return False
        target = self._next(2).phrase
        return target is None or (target.place != "place" and target.role not in ("mood", "style"))

    def _is_fronted(self) -> bool:
        """ ", behind the log a deer", ", behind it stands a vase": the place comes before its thing."""
        if self._next(-1).kind not in ("comma", "and") or self._next().kind not in ("np", "it"):
            return False
        after = self._next(2)
        aside = after.kind == "comma" and self._next().kind == "it" and self._next(3).kind == "np"  # "and, behind them, a drummer"
        return aside or after.kind == "np" or (after.kind in ("verb", "be", "there") and self._next(3).kind == "np")

    def _inverted(self) -> bool:
        """ "a tree; on the left, a house": the spot is of what follows its comma when it starts its clause."""
        starts = self._next(-1).kind in ("comma", "stop", "and")
        return starts and self._next().kind in ("comma", "np", "be", "there", "verb")

    def _carries_it(self, size: int) -> bool:
        """ "A table with a vase on it": a thing on furniture, unlike "a cake with candles on it"."""
        placed = size >= LARGE or self._next().text == "on top of"
        return placed and self._next().value == "on" and self._next(2).kind == "it"
