"""Context maps that the user steers: a mask or a box says where a foreground is, before Eq. 9 uses the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from .shared import resize_map

__all__ = ["ContextSteering", "SteeringMode", "box_mask", "check_steering", "steer_maps"]

SteeringMode = Literal["override", "multiply"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ContextSteering:
    """Of one foreground: ``mask`` (h, w), or (stacks, h, w), in [0, 1] over the whole latent at any resolution.

    "override": the mask is the map, for a mask that says exactly where the object is. "multiply": the map counts only
    as far as the mask goes, for a box around it. Raises InputError for other shapes, values and modes.
    """

    mask: Tensor
    mode: SteeringMode = "override"

    def __post_init__(self) -> None:
        if self.mode not in get_args(SteeringMode):
            raise InputError(f"got a steering of mode {self.mode!r}; give one of {', '.join(get_args(SteeringMode))}")
        if self.mask.ndim not in (2, 3) or self.mask.numel() == 0:
            raise InputError(f"got a steering mask of shape {tuple(self.mask.shape)}; give (h, w) or (stacks, h, w)")
        low, high = (float(value) for value in self.mask.aminmax())
        if not (low >= 0 and high <= 1):
            raise InputError(f"got a steering mask with values from {low:g} to {high:g}; give 0 to 1")


def box_mask(boxes: Sequence[tuple[float, float, float, float]], width: int, height: int) -> Tensor:
    """The area of boxes (x, y, width, height) in pixels of a picture: (height, width) in [0, 1].

    Where a box covers part of a pixel, the mask has that part. Boxes may overlap, and reach beyond the picture.
    Raises InputError for a box that covers nothing of it.
    """
    mask = torch.zeros(height, width)
    for x, y, w, h in boxes:
        covered = _covered(y, h, height)[:, None] * _covered(x, w, width)[None, :]
        if not bool((covered > 0).any()):  # NaN is not
            raise InputError(
                f"got the box {x:g},{y:g},{w:g},{h:g} for a picture of {width}x{height} pixels; give x,y,width,height of "
                "a box that covers some of it")
        mask = torch.maximum(mask, covered)
    return mask


def _covered(start: float, length: float, cells: int) -> Tensor:
    edges = torch.arange(cells, dtype=torch.float32)
    return (torch.minimum(edges + 1, torch.tensor(start + length)) - edges.clamp(min=start)).clamp(0, 1)


def check_steering(steering: Mapping[int, ContextSteering], foregrounds: int, stacks: int) -> None:
    """Raises InputError for a layer that has no context map, and for masks of another number of stacks."""
    if unknown := [layer for layer in steering if not 1 <= layer <= foregrounds]:
        why = "the background has no context map" if unknown[0] == 0 else f"there are {foregrounds} foregrounds"
        raise InputError(f"got a box or mask for layer {unknown[0]}, but {why}; give layers 1 to {foregrounds}")
    for layer, one in steering.items():
        if one.mask.ndim == 3 and len(one.mask) != stacks:
            raise InputError(f"got {len(one.mask)} masks for layer {layer} of {stacks} stacks; give one, or one per stack")


def steer_maps(maps: Tensor, steering: Mapping[int, ContextSteering]) -> Tensor:
    """Context maps (stacks, fg, h, w) with those of some foregrounds (1 is the lowest) overridden or multiplied.

    Without steering the maps come back untouched; masks are brought to the maps' resolution.
    """
    if not steering:
        return maps
    steered = maps.clone()
    for layer, one in steering.items():
        mask = resize_map(one.mask.to(maps), (maps.shape[-2], maps.shape[-1]))
        steered[:, layer - 1] = mask if one.mode == "override" else mask * maps[:, layer - 1]
    return steered
