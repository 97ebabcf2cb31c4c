"""op() on the pixels of a layer (Eq. 13): the layer as an artist would place it, and what it then does not show."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .composite import defringe
from .edits import LayerEdit, apply_edit
from .errors import InputError
from .layers import Layer, LayerStack
from .placement import cut_out, transform_layer

__all__ = ["continued", "covered_part", "edit_pixels", "own_center", "unseen_cells", "unseen_part"]

_MOST_PIXELS = 2**25  # of one edited layer: half a GiB as floats
_UNSEEN = 1e-3  # a pixel is unknown if more than this of it is


def edit_pixels(layer: Layer, edit: LayerEdit) -> Layer:
    """op() on a layer's pixels, on whole pixels: nothing that leaves the canvas is lost, the layer reaches beyond it.

    ``edit.center`` None is the middle of the layer's visible box. A move by whole pixels changes no pixel value.
    Raises InputError for a result too large to be kept.
    """
    box = layer.box
    moved = replace(layer, x=layer.x + _whole(edit.dx), y=layer.y + _whole(edit.dy))
    if box is None or replace(edit, dx=0.0, dy=0.0).is_identity:
        return moved
    middle = own_center(layer)
    size = (max(1, _whole((box[2] - box[0]) * edit.scale_x)), max(1, _whole((box[3] - box[1]) * edit.scale_y)))
    if size[0] * size[1] > _MOST_PIXELS:
        raise InputError(f"layer {layer.name!r} would be {size[0]}x{size[1]} pixels; scale it less")
    x, y = _moved_point(middle, edit)
    # Rounded from below the half: at a size of odd pixels both neighbours are as near.
    placed = replace(cut_out(layer, box), x=math.ceil(x - size[0] / 2 - 0.5), y=math.ceil(y - size[1] / 2 - 0.5))
    return transform_layer(
        placed, size=size, rotation=math.radians(edit.degrees % 360),
        flip_horizontal=edit.flip_horizontal, flip_vertical=edit.flip_vertical)


def own_center(layer: Layer) -> tuple[float, float]:
    """Middle (x, y) of the layer's visible box, in pixels of the canvas; of its picture if nothing is visible."""
    x0, y0, x1, y1 = layer.box or (layer.x, layer.y, layer.x + layer.width, layer.y + layer.height)
    return (x0 + x1) / 2, (y0 + y1) / 2


def _moved_point(point: tuple[float, float], edit: LayerEdit) -> tuple[float, float]:
    """Where op() brings a point of the canvas."""
    center_x, center_y = edit.center or point
    x = (point[0] - center_x) * (-edit.scale_x if edit.flip_horizontal else edit.scale_x)
    y = (point[1] - center_y) * (-edit.scale_y if edit.flip_vertical else edit.scale_y)
    angle = math.radians(edit.degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return center_x + x * cos - y * sin + edit.dx, center_y + x * sin + y * cos + edit.dy


def unseen_part(layer: Layer, edit: LayerEdit, size: tuple[int, int]) -> Tensor:
    """(height, width) in [0, 1]: how much of each pixel of the canvas shows what neither canvas nor layer has held."""
    x0, y0 = min(0, layer.x), min(0, layer.y)
    x1, y1 = max(size[0], layer.x + layer.width), max(size[1], layer.y + layer.height)
    x, y = edit.center or own_center(layer)
    held = apply_edit(torch.ones(y1 - y0, x1 - x0), replace(edit, center=(x - x0, y - y0)), pixels_per_cell=1)
    return 1 - held[-y0 : size[1] - y0, -x0 : size[0] - x0]


def covered_part(stack: LayerStack, index: int, edit: LayerEdit) -> Tensor:
    """(height, width) in [0, 1]: after its edit, where a layer shows nothing because other layers had covered it.

    Of layers that were cut out of a picture: where one is transparent under another, nobody knows what it is.
    """
    size = (stack.width, stack.height)
    above = [layer.on_canvas(*size).alpha for layer in stack.layers[index + 1 :] if layer.visible]
    if not above:
        return torch.zeros(stack.height, stack.width)
    own = stack.layers[index].on_canvas(*size)
    hidden = torch.stack(above).amax(0) * (1 - own.alpha)
    return edit_pixels(replace(own, alpha=hidden), edit).on_canvas(*size).alpha[0]


def continued(background: Layer, unseen: Tensor, size: tuple[int, int]) -> Layer:
    """A background that its edges continue where nothing is known of it."""
    placed, hole = background.on_canvas(*size), (unseen > _UNSEEN)[None]
    if not bool(hole.any()):
        return placed
    seen = torch.where(hole, 0.0, placed.alpha)
    return replace(placed, color=defringe(placed.color, seen, matte=None), alpha=torch.where(hole, 1.0, placed.alpha))


def unseen_cells(unseen: Tensor, grid: tuple[int, int], scale: int) -> Tensor:
    """(h, w), boolean: cells that hold any unknown pixel (height, width); beyond the canvas it is as at its edge."""
    missing = (0, grid[1] * scale - unseen.shape[-1], 0, grid[0] * scale - unseen.shape[-2])
    padded = functional.pad(unseen[None, None], missing, mode="replicate")
    return functional.max_pool2d(padded, scale)[0, 0] > _UNSEEN


def _whole(value: float) -> int:
    return math.floor(value + 0.5)
