"""op() on the pixels of a layer (Eq. 13): the layer as an artist would place it, and what it then does not show."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .composite import defringe
from .edits import LayerEdit, source_positions
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
    about = replace(edit, center=edit.center or own_center(layer))
    points = source_positions(about, (size[1], size[0]), 1)
    spread = (1 / min(1, edit.scale_x), 1 / min(1, edit.scale_y))
    canvas, own = (0, 0, *size), (layer.x, layer.y, layer.x + layer.width, layer.y + layer.height)
    both = (max(0, own[0]), max(0, own[1]), min(size[0], own[2]), min(size[1], own[3]))
    held = _within(canvas, points, spread) + _within(own, points, spread) - _within(both, points, spread)
    return (1 - held).clamp(0, 1).float()


def _within(box: tuple[int, int, int, int], points: Tensor, spread: tuple[float, float]) -> Tensor:
    """(h, w): the share of rectangles of ``spread`` (x, y) about points (h, w, 2) that lies in a box (x0, y0, x1, y1)."""
    shares = [
        (torch.clamp(middle + side / 2, max=high) - torch.clamp(middle - side / 2, min=low)).clamp_min(0) / side
        for middle, side, low, high in zip(points.unbind(-1), spread, box[:2], box[2:], strict=True)]
    return shares[0] * shares[1]


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
