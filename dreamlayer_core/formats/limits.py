"""What a layer document may cost before it is refused: files come from anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormatError

__all__ = ["Limits", "PixelBudget"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Checked before anything of that size is decoded."""

    layers: int = 512
    side: int = 16384  # pixels of the canvas or of a layer
    pixels: int = 2**28  # of all layers together: 1 GiB in eight bits, 4 GiB as floats
    metadata: int = 2**24  # bytes of stack.json or stack.xml

    def check_layers(self, count: int) -> None:
        if not 1 <= count <= self.layers:
            raise FormatError(f"the document has {count} layers; 1 to {self.layers} can be read, so merge some first")

    def check_size(self, what: str, width: int, height: int) -> None:
        if not (1 <= width <= self.side and 1 <= height <= self.side):
            raise FormatError(f"{what} is {width}x{height} pixels; 1 to {self.side} a side can be read, so scale it")

    def budget(self) -> PixelBudget:
        return PixelBudget(self)


class PixelBudget:
    """Counts the pixels of one document while it is read."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._spent = 0

    @property
    def bytes_left(self) -> int:
        """What a compressed picture that still fits can weigh: noise does not compress, and headers come on top."""
        return 4 * (self._limits.pixels - self._spent) + 2**20

    def take(self, what: str, width: int, height: int) -> None:
        """Raise `FormatError` if a picture of this size is too large alone or together with those before it."""
        self._limits.check_size(what, width, height)
        self._spent += width * height
        if self._spent > self._limits.pixels:
            most = self._limits.pixels // 10**6
            raise FormatError(f"with {what} the layers exceed {most} megapixels; crop or merge layers first")
