"""Edits read off where a layer stands: op() of Eq. 13 as the map between two placements of the same pixels.

Maps are affine, (3, 3) in double precision, acting on columns (x, y, 1) in pixels.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from .edits import LayerEdit
from .errors import InputError

__all__ = ["edit_map", "edit_of", "placement_map", "shift_map"]

_DIGITS = 9  # of a map; what products of rotations lose lies below
_SHEAR = 1e-6  # cosine between a layer's axes from which they count as slanted


def shift_map(x: float, y: float) -> Tensor:
    """A move to the right and down."""
    return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)


def placement_map(
    pixels: tuple[int, int], corner: tuple[float, float], size: tuple[float, float], *,
    flip_horizontal: bool = False, flip_vertical: bool = False, rotation: float = 0.0,
) -> Tensor:
    """Where a picture of ``pixels`` (width, height) shows its points on the canvas, placed as `transform_layer` places it.

    It is flipped, scaled to ``size`` at ``corner``, and turned clockwise by ``rotation`` radians about its centre.
    """
    scale = (size[0] / pixels[0] * (-1 if flip_horizontal else 1), size[1] / pixels[1] * (-1 if flip_vertical else 1))
    to = shift_map(corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    return to @ _linear(scale, rotation) @ shift_map(-pixels[0] / 2, -pixels[1] / 2)


def edit_map(edit: LayerEdit) -> Tensor:
    """Where op() brings the points of the canvas. Raises InputError for an edit without a center."""
    if edit.center is None:
        raise InputError("got an edit without a center; give the middle of what it is about")
    (x, y) = edit.center
    scale = (-edit.scale_x if edit.flip_horizontal else edit.scale_x, -edit.scale_y if edit.flip_vertical else edit.scale_y)
    return shift_map(x + edit.dx, y + edit.dy) @ _linear(scale, math.radians(edit.degrees)) @ shift_map(-x, -y)


def _linear(scale: tuple[float, float], angle: float) -> Tensor:
    """Resizing along the axes, below 0 mirrored, then turning clockwise."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor(
        [[cos * scale[0], -sin * scale[1], 0], [sin * scale[0], cos * scale[1], 0], [0, 0, 1]], dtype=torch.float64)


def edit_of(moved: Tensor, center: tuple[float, float]) -> LayerEdit:
    """The edit about ``center`` that does what a map does: the inverse of `edit_map`.

    Raises InputError for a map that slants the layer (resized along one axis after a turn), which no edit says.
    """
    (a, b, _), (c, d, _), _ = moved.tolist()
    scale_x, scale_y = math.hypot(a, c), math.hypot(b, d)
    if abs(a * b + c * d) > _SHEAR * scale_x * scale_y:
        raise InputError("got a layer that was turned and then resized along one axis, which slants it; resize it before "
                         "it is turned")
    mirrored = a * d - b * c < 0
    # A mirrored layer is mirrored either way: the one with the smaller turn is what somebody did.
    turns = [(math.atan2(-c, -a), True, False), (math.atan2(c, a), False, True)] if mirrored else [(math.atan2(c, a), False, False)]
    angle, across, down = min(turns, key=lambda turn: abs(round(turn[0], _DIGITS)))
    x, y, _ = (moved @ torch.tensor([*center, 1], dtype=torch.float64)).tolist()
    dx, dy, scale_x, scale_y, degrees = (
        round(value, _DIGITS) for value in (x - center[0], y - center[1], scale_x, scale_y, math.degrees(angle)))
    edit = LayerEdit(dx=dx, dy=dy, scale_x=scale_x, scale_y=scale_y, degrees=degrees, flip_horizontal=across, flip_vertical=down)
    return replace(edit, center=center)
