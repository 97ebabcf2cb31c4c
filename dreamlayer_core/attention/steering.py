"""Context maps that the user steers: a mask or a box says where a foreground is, before Eq. 9 uses the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .shared import resize_map

__all__ = ["ContextSteering", "SteeringMode", "box_mask", "check_needed", "check_shape", "check_steering", "steer_latents",
           "steer_maps", "steering_part"]

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


def check_needed(steering: Mapping[int, ContextSteering], caca: bool) -> None:
    """Raises InputError for steering of maps that nobody reads."""
    if steering and not caca:
        raise InputError("got boxes or masks, but context-aware cross-attention is off; switch it on, or leave them out")


def check_shape(what: str, size: tuple[int, int], picture: tuple[int, int]) -> None:
    """Raises InputError for a (width, height) that is not the picture's shape; ``what`` has a place for each of the two."""
    if not _same_shape(size, picture):
        right = size[0], max(1, round(size[0] * picture[1] / picture[0]))
        shown = right if _same_shape(right, picture) else picture
        raise InputError(
            f"got {what.format(*size)} for a picture of {picture[0]}x{picture[1]} pixels; give its shape, such as "
            f"{shown[0]}x{shown[1]}")


def _same_shape(size: tuple[int, int], picture: tuple[int, int]) -> bool:
    """Up to a pixel of rounding, or a tenth of a side that is smaller than ten."""
    (width, height), (own_width, own_height) = size, picture
    return (abs(height - width * own_height / own_width) <= min(1, height / 10)
            or abs(width - height * own_width / own_height) <= min(1, width / 10))


def steer_latents(
    steering: Mapping[int, ContextSteering], picture: tuple[int, int], size: tuple[int, int], latents: tuple[int, int]
) -> dict[int, ContextSteering]:
    """Masks over a picture as masks over its latents, which may reach beyond its right and lower edges.

    All are (width, height) in pixels: of the picture that the masks are of, of the same picture as it is encoded, and of
    what the latents cover. Raises InputError for masks of another shape than the picture's.
    """
    (width, height), (columns, rows) = size, latents

    def widened(layer: int, one: ContextSteering) -> ContextSteering:
        check_shape(f"a mask for layer {layer} of {{}}x{{}}", (one.mask.shape[-1], one.mask.shape[-2]), picture)
        mask = resize_map(one.mask.float(), (height, width))
        return replace(one, mask=functional.pad(mask, (0, columns - width, 0, rows - height)))

    return {layer: widened(layer, one) for layer, one in steering.items()}


def steering_part(
    steering: Mapping[int, ContextSteering], stacks: Sequence[int], area: Sequence[int] | None = None, scale: int = 1
) -> dict[int, ContextSteering]:
    """The steering of some of the stacks, and of an area (height, width, top, left) in cells of ``scale`` mask pixels."""
    def part(mask: Tensor) -> Tensor:
        mask = mask[list(stacks)] if mask.ndim == 3 else mask
        if area is None:
            return mask
        height, width, top, left = (cells * scale for cells in area)
        return mask[..., top : top + height, left : left + width]

    return {layer: replace(one, mask=part(one.mask)) for layer, one in steering.items()}


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
