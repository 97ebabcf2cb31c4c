"""Values of single rows as users write them: ``2: 17, 3: 4``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..dreamlayer_core.errors import InputError

__all__ = ["CFGS", "DENOISES", "SEEDS", "RowValues"]


T = TypeVar("T", int, float)


@dataclass(frozen=True)
class RowValues(Generic[T]):
    """What the values are called, an example, what reads one (ValueError for what is none), and their limits in words."""

    name: str
    example: str
    read: Callable[[str], T]
    limits: str = ""

    def parse(self, text: str, rows: int | None = None) -> dict[int, T]:
        """``"1: 7, 3: 12"`` -> {1: 7, 3: 12}. Raises InputError for anything else, and for rows that the picture lacks."""
        values = dict[int, T]()
        for part in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
            row, value = self._part(part)
            if rows is not None and not row < rows:
                raise InputError(
                    f"got a {self.name} for row {row}; this picture's rows are 0 (background) to {rows - 1} (the whole)")
            if row in values:
                raise InputError(f"got two {self.name}s for row {row}, {values[row]} and {value}; give one")
            values[row] = value
        return values

    def _part(self, part: str) -> tuple[int, T]:
        row, colon, value = (piece.strip() for piece in part.partition(":"))
        try:
            if colon and row.isdecimal():
                return int(row), self.read(value)
        except ValueError:
            pass
        raise InputError(f"got the layer {self.name} {part!r}; give rows and {self.name}s{self.limits} such as '{self.example}'")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _up_to(limit: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch(r"\d*\.?\d+", text) or not float(text) <= limit:
            raise ValueError(text)
        return float(text)

    return read


SEEDS = RowValues("seed", "1: 7, 3: 12", _whole)
CFGS = RowValues("CFG", "2: 7.5, 3: 4", _up_to(100), " of 0 to 100")
DENOISES = RowValues("denoise", "1: 0.5, 2: 0", _up_to(1), " of 0 to 1")
