"""Layers that are scaled, flipped and turned: where they come to stand, and their pixels there.

Order and rounding are those of ComfyUI's layer editor (flip, scale, then turn about the centre), so that a layer that
was placed there stands on the same pixels here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .composite import premultiply, unpremultiply
from .errors import InputError
from .layers import Box, Layer

__all__ = ["cut_out", "placed_bounds", "resize_alpha", "transform_layer"]

_MOST_PIXELS = 16384  # a side


def placed_bounds(x: float, y: float, width: float, height: float, rotation: float) -> Box:
    """The pixels (x0, y0, x1, y1) around a rectangle turned clockwise by `rotation` radians about its centre."""
    cos, sin = math.cos(rotation), math.sin(rotation)
    corners = [(across * width / 2, down * height / 2) for down in (-1, 1) for across in (-1, 1)]
    # One sum per corner, not centre ± half the extent: at right angles the last bit decides about a whole pixel.
    columns = [x + width / 2 + across * cos - down * sin for across, down in corners]
    rows = [y + height / 2 + across * sin + down * cos for across, down in corners]
    left, top = math.floor(min(columns)), math.floor(min(rows))
    return left, top, max(left + 1, math.ceil(max(columns))), max(top + 1, math.ceil(max(rows)))


def transform_layer(
    layer: Layer,
    *,
    size: tuple[int, int] | None = None,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    rotation: float = 0.0,
) -> Layer:
    """The layer flipped, scaled to `size` (width, height), and turned clockwise by `rotation` radians about its centre.

    `layer.x` and `layer.y` are the corner before the turn; the result has the corner of the box around what was turned.
    Without scaling and turning no pixel value changes. Raises `InputError` for sizes outside 1 to 16384, or an angle
    that is not finite.
    """
    size = size or (layer.width, layer.height)
    _check(layer, size, rotation)
    mirrored = [axis for axis, wanted in ((-1, flip_horizontal), (-2, flip_vertical)) if wanted]
    if mirrored:
        layer = replace(layer, color=layer.color.flip(mirrored), alpha=layer.alpha.flip(mirrored))
    if size == (layer.width, layer.height) and rotation == 0:
        return layer
    left, top, right, bottom = placed_bounds(layer.x, layer.y, *size, rotation)
    color, alpha = _resampled(layer, size, rotation)
    # A turned picture can be a pixel larger or smaller than the box around the turned rectangle: their centres meet.
    x, y = (right - left - alpha.shape[-1]) // 2, (bottom - top - alpha.shape[-2]) // 2
    turned = replace(layer, color=color, alpha=alpha, x=x, y=y).on_canvas(right - left, bottom - top)
    return replace(turned, x=left, y=top)


def cut_out(layer: Layer, box: Box) -> Layer:
    """The part of a layer in a box (x0, y0, x1, y1) of the canvas; transparent where the box goes beyond the layer."""
    left, top, right, bottom = box
    part = replace(layer, x=layer.x - left, y=layer.y - top).on_canvas(right - left, bottom - top)
    return replace(part, x=left, y=top)


def resize_alpha(alpha: Tensor, width: int, height: int) -> Tensor:
    """Alphas (n, h, w) at another size."""
    if tuple(alpha.shape[-2:]) == (height, width):
        return alpha
    return functional.interpolate(alpha[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def _check(layer: Layer, size: tuple[int, int], rotation: float) -> None:
    if not all(1 <= side <= _MOST_PIXELS for side in size):
        found = f"{size[0]}x{size[1]}"
        raise InputError(f"layer {layer.name!r} is to be {found} pixels; scale it to 1 to {_MOST_PIXELS} a side")
    if not math.isfinite(rotation):
        raise InputError(f"layer {layer.name!r} got rotation {rotation}; give radians")


def _resampled(layer: Layer, size: tuple[int, int], rotation: float) -> tuple[Tensor, Tensor]:
    """Colour (3, h, w) and alpha (1, h, w) at `size`, then turned, on a picture that is as large as that needs."""
    # Premultiplied, so that colours under alpha 0 do not bleed into the edge.
    premultiplied = torch.cat([premultiply(layer.color, layer.alpha), layer.alpha])
    planes = torch.stack([_resampled_plane(plane, size, rotation) for plane in premultiplied]).to(layer.alpha)
    color, alpha = planes[:3], planes[3:]
    # By the alpha as it is: where the filter overshoots, it does so in both.
    return unpremultiply(color, alpha).clamp(0, 1), alpha.clamp(0, 1)


def _resampled_plane(plane: Tensor, size: tuple[int, int], rotation: float) -> Tensor:
    picture = Image.fromarray(plane.detach().to("cpu", torch.float32).contiguous().numpy())
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    if rotation != 0:
        picture = picture.rotate(-math.degrees(rotation), Image.Resampling.BICUBIC, expand=True)
    return torch.from_numpy(np.array(picture, dtype=np.float32))
