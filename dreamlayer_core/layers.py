"""The vocabulary: a layer, and a stack of layers.

Layer 0 is the background (the paper's i = 1), layers 1 .. k-1 are the foregrounds from bottom to top.
Colours are sRGB in [0, 1] with straight alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BLEND_MODES", "OPAQUE", "Box", "Layer", "LayerChanges", "LayerStack", "renamed"]

Box = tuple[int, int, int, int]

# The modes that OpenRaster, PSD and the W3C compositing text define alike.
BLEND_MODES = ("normal", "multiply", "screen", "overlay", "darken", "lighten", "hard-light", "difference")

_VISIBLE_ALPHA = 0.5 / 255  # less than this is 0 in an eight-bit file
OPAQUE = 1 - _VISIBLE_ALPHA
"""Alpha from which an eight-bit file holds a pixel as opaque."""


class LayerChanges(TypedDict, total=False):
    """The fields that `LayerStack.with_layer` can change."""

    name: str
    color: Tensor
    alpha: Tensor
    prompt: str
    x: int
    y: int
    visible: bool
    opacity: float
    seed: int | None
    blend_mode: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One RGBA layer: `color` (3, h, w) and `alpha` (1, h, w) in [0, 1], its corner at pixel (`x`, `y`) of the canvas.

    Raises `InputError` for wrong shapes, integer or non-finite pixels, an opacity outside [0, 1], an unknown blend
    mode, or a name or prompt that is not valid Unicode.
    """

    name: str
    color: Tensor
    alpha: Tensor
    prompt: str = ""
    x: int = 0
    y: int = 0
    visible: bool = True
    opacity: float = 1.0
    seed: int | None = None
    blend_mode: str = "normal"

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text(f"prompt of layer {self.name!r}", self.prompt)
        _check_pixels(self)
        _check_mixing(self)

    @property
    def width(self) -> int:
        return int(self.alpha.shape[-1])

    @property
    def height(self) -> int:
        return int(self.alpha.shape[-2])

    @property
    def rgba(self) -> Tensor:
        """Colour and straight alpha, (4, h, w) in [0, 1]."""
        return torch.cat([self.color, self.alpha])

    @property
    def box(self) -> Box | None:
        """Tight (x0, y0, x1, y1) on the canvas around what eight bits can show; None if the layer is empty."""
        seen = self.alpha[0] > _VISIBLE_ALPHA
        rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
        if rows.numel() == 0:
            return None
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        return self.x + left, self.y + top, self.x + right, self.y + bottom

    def on_canvas(self, width: int, height: int) -> Layer:
        """The same layer as a picture of the whole canvas: cut at its edges, transparent where the layer is not."""
        if (self.x, self.y, self.width, self.height) == (0, 0, width, height):
            return self
        color, alpha = _place(self.color, self.alpha, (self.x, self.y), (width, height))
        return replace(self, color=color, alpha=alpha, x=0, y=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStack:
    """Layers of one canvas of `width` x `height` pixels, bottom to top; `global_prompt` describes the whole picture.

    Raises `InputError` for no layer or a canvas without area.
    """

    width: int
    height: int
    layers: tuple[Layer, ...]
    global_prompt: str = ""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"got a canvas of {self.width}x{self.height}; give at least 1x1 pixels")
        if not self.layers:
            raise InputError("got 0 layers; give at least a background")
        _check_text("global prompt", self.global_prompt)

    @property
    def background(self) -> Layer:
        return self.layers[0]

    @property
    def foregrounds(self) -> tuple[Layer, ...]:
        return self.layers[1:]

    def with_layer(self, index: int, **changes: Unpack[LayerChanges]) -> LayerStack:
        """A stack in which layer `index` (0 = background) has the given fields changed."""
        if not 0 <= index < len(self.layers):
            raise InputError(f"got layer {index} of a stack of {len(self.layers)}; give 0 to {len(self.layers) - 1}")
        changed = replace(self.layers[index], **changes)
        return replace(self, layers=(*self.layers[:index], changed, *self.layers[index + 1 :]))


def renamed(name: str, layer: int, old: str, new: str) -> str:
    """The name of a layer (0 = the background) whose prompt ``old`` becomes ``new``: that, where it was called by the old
    one or by its number."""
    return new.strip() if layer and new.strip() and name in (old.strip(), f"layer {layer}") else name


def _check_text(what: str, text: str) -> None:
    # Command lines can hold bytes that are no text; they would fail only when the files are written.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {text!r} is not valid Unicode; type it again as UTF-8 text") from error


def _check_pixels(layer: Layer) -> None:
    color, alpha = tuple(layer.color.shape), tuple(layer.alpha.shape)
    expected = len(color) == 3 and color[0] == 3 and alpha == (1, *color[1:])
    if not expected or 0 in color:
        raise InputError(f"layer {layer.name!r} got colour {color} and alpha {alpha}; give (3, h, w) and (1, h, w)")
    for part, values in (("colour", layer.color), ("alpha", layer.alpha)):
        if not values.is_floating_point():
            raise InputError(f"layer {layer.name!r} got {part} of {values.dtype}; give floats in [0, 1]")
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"layer {layer.name!r} got {part} with NaN or infinite values; give floats in [0, 1]")


def _check_mixing(layer: Layer) -> None:
    if not (math.isfinite(layer.opacity) and 0.0 <= layer.opacity <= 1.0):
        raise InputError(f"layer {layer.name!r} got opacity {layer.opacity}; give 0 to 1")
    if layer.blend_mode not in BLEND_MODES:
        known = ", ".join(BLEND_MODES)
        raise InputError(f"layer {layer.name!r} got blend mode {layer.blend_mode!r}; give one of {known}")


def _place(color: Tensor, alpha: Tensor, corner: tuple[int, int], canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cut and pad colour (3, h, w) and alpha (1, h, w) to a canvas of (width, height)."""
    height, width = alpha.shape[-2:]
    left, top = corner
    x0, x1 = max(left, 0), min(left + width, canvas[0])
    y0, y1 = max(top, 0), min(top + height, canvas[1])
    if x0 >= x1 or y0 >= y1:
        return color.new_zeros(3, canvas[1], canvas[0]), alpha.new_zeros(1, canvas[1], canvas[0])
    rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    margins = (x0, canvas[0] - x1, y0, canvas[1] - y1)
    # The colour goes on under alpha 0, so that a program that resizes the layer mixes nothing foreign into its edge.
    spread = functional.pad(color[:, rows, columns], margins, mode="replicate")
    return spread, functional.pad(alpha[:, rows, columns], margins)
