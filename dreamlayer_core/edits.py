"""Edits of a layer, op() of Eq. 13: move, resize, flip, rotate, done alike to a layer's latent and to its alpha.

An edit is written in pixels of the picture. `apply_edit` is told how many pixels a cell of its tensor spans (8 for a
latent of SD 1.5, 1 for a picture), and so one edit fits both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InputError

__all__ = ["LayerEdit", "apply_edit", "center_of", "source_positions"]

SCALE_LIMITS = (0.01, 100.0)
EXACT = 1e-6  # cells; nearer than this to a whole cell is that cell


@dataclass(frozen=True, kw_only=True)
class LayerEdit:
    """First flip, then resize, then rotate, all about `center`, then move. Raises InputError for impossible values.

    dx, dy: pixels to the right and down. scale_x, scale_y: factors along the layer's own axes, 0.01 to 100.
    degrees: clockwise as seen. center: (x, y) in pixels, usually the layer's own (`center_of`); None is the middle of
    the canvas, which two tensors share only if they cover the same canvas.
    """

    dx: float = 0.0
    dy: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0
    degrees: float = 0.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    center: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        numbers = (self.dx, self.dy, self.degrees, *(self.center or ()))
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"got {self}; give finite numbers for dx, dy, degrees and center")
        low, high = SCALE_LIMITS
        if not (low <= self.scale_x <= high and low <= self.scale_y <= high):
            raise InputError(f"got scale {self.scale_x} x {self.scale_y}; give factors between {low} and {high}")

    @property
    def resizes(self) -> bool:
        return (self.scale_x, self.scale_y) != (1, 1)

    @property
    def is_identity(self) -> bool:
        turned = self.flip_horizontal or self.flip_vertical or self.degrees % 360 != 0
        return not (turned or self.resizes or self.dx or self.dy)

    def snapped(self, pixels_per_cell: float) -> LayerEdit:
        """The nearest edit whose moves, flips and quarter turns map cells of a latent onto cells.

        Edit latent and alpha with the same snapped edit: resampling would average the latent's noise away.
        """
        # Flips need a center on a cell's edge or middle; quarter turns the same for both axes, so take the edge.
        step = pixels_per_cell if self.degrees % 180 == 90 else pixels_per_cell / 2
        center = self.center and (_round_to(self.center[0], step), _round_to(self.center[1], step))
        dx, dy = _round_to(self.dx, pixels_per_cell), _round_to(self.dy, pixels_per_cell)
        return replace(self, dx=dx, dy=dy, center=center)


def apply_edit(
    tensor: Tensor,
    edit: LayerEdit,
    *,
    pixels_per_cell: float,
    fill: float | Tensor = 0.0,
    resample: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """op(z) or op(α): the edited layer on the same canvas (Eq. 13).

    tensor (..., h, w) -> same shape and dtype, values within those of tensor and fill. What comes into the frame from
    outside is unknown and becomes `fill`, a number or a tensor broadcastable to tensor's shape. An edit that maps cells
    onto cells is exact, only the fate of what leaves the frame cannot be undone; the identity returns `tensor` itself.
    Otherwise "bilinear" interpolates (and averages when shrinking): right for alphas and pictures. "nearest" takes the
    nearest cell: for noisy latents, whose noise must keep its variance.
    """
    if edit.is_identity:
        return tensor
    positions = source_positions(edit, (tensor.shape[-2], tensor.shape[-1]), pixels_per_cell)
    indices = positions / pixels_per_cell - 0.5
    cells = (indices + 0.5 + EXACT).floor()
    filling = torch.as_tensor(fill, dtype=tensor.dtype, device=tensor.device)
    onto_cells = not edit.resizes and bool((indices - cells).abs().max() <= EXACT)
    if onto_cells or resample == "nearest":
        return _pick(tensor, cells.long().to(tensor.device), filling)
    return _interpolate(tensor, positions / pixels_per_cell, edit, filling)


def center_of(alpha: Tensor, *, pixels_per_cell: float = 1.0, threshold: float = 0.5 / 255) -> tuple[float, float]:
    """Middle (x, y), in pixels, of the tight box around alpha (..., h, w) > threshold; of the canvas if none is."""
    visible = (alpha > threshold).reshape(-1, *alpha.shape[-2:]).any(dim=0)
    if not visible.any():
        visible = torch.ones_like(visible)
    return _middle(visible.any(dim=0)) * pixels_per_cell, _middle(visible.any(dim=1)) * pixels_per_cell


def source_positions(edit: LayerEdit, size: tuple[int, int], pixels_per_cell: float) -> Tensor:
    """(h, w, 2): x and y, in pixels, of the point that the middle of each cell of a canvas shows after op(); fp64.

    ``size`` is (height, width) in cells. On the CPU: MPS has no float64.
    """
    height, width = size
    center_x, center_y = edit.center or (width * pixels_per_cell / 2, height * pixels_per_cell / 2)
    cos, sin = _cos_sin(edit.degrees)
    y, x = torch.meshgrid(_middles(height, pixels_per_cell), _middles(width, pixels_per_cell), indexing="ij")
    x, y = x - edit.dx - center_x, y - edit.dy - center_y
    x, y = x * cos + y * sin, y * cos - x * sin
    x = x / (-edit.scale_x if edit.flip_horizontal else edit.scale_x)
    y = y / (-edit.scale_y if edit.flip_vertical else edit.scale_y)
    return torch.stack([x + center_x, y + center_y], dim=-1)


def _pick(tensor: Tensor, cells: Tensor, fill: Tensor) -> Tensor:
    height, width = tensor.shape[-2:]
    x, y = cells.unbind(dim=-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.where(inside, tensor[..., y.clamp(0, height - 1), x.clamp(0, width - 1)], fill)


def _interpolate(tensor: Tensor, positions: Tensor, edit: LayerEdit, fill: Tensor) -> Tensor:
    """positions (h, w, 2): x and y in cells of tensor, measured from the canvas's corner."""
    height, width = tensor.shape[-2:]
    planes = tensor.reshape(1, -1, height, width).float()
    # Shrink along the layer's axes first: a bilinear sample looks at four cells and would skip the others.
    shrunk = (math.ceil(height * min(1, edit.scale_y)), math.ceil(width * min(1, edit.scale_x)))
    if shrunk != (height, width):
        planes = functional.interpolate(planes, shrunk, mode="bilinear", antialias=True)
    planes = torch.cat([planes, torch.ones_like(planes[:, :1])], dim=1)  # the last one: how much lies in the frame
    grid = (2 * positions / torch.tensor([width, height]) - 1)[None].to(planes)
    sampled = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    edited = sampled[0, :-1].reshape(tensor.shape) + (1 - sampled[0, -1]) * fill
    low, high = torch.minimum(tensor.min(), fill.min()), torch.maximum(tensor.max(), fill.max())
    return edited.to(tensor.dtype).clamp(low, high)


def _cos_sin(degrees: float) -> tuple[float, float]:
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0:  # exact: math.cos(math.pi / 2) is not 0
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _middles(cells: int, pixels_per_cell: float) -> Tensor:
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * pixels_per_cell


def _middle(occupied: Tensor) -> float:
    indices = occupied.nonzero()
    return (indices.min().item() + indices.max().item() + 1) / 2


def _round_to(value: float, step: float) -> float:
    return math.floor(value / step + 0.5) * step
