"""What the map of Eq. 4 needs where no trained layers clean it up (the training-free form, N = 0).

Every function takes and returns maps (stacks, fg, n) in [0, 1] or attention (stacks, n, s), in fp32.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..config import MapRefinement
from .context import min_max, smooth_map

__all__ = ["refine_maps", "self_refine", "sharpen_map", "weigh_tokens"]


def weigh_tokens(attention: Tensor) -> Tensor:
    """Every token's map times its relative spread over the picture, std / mean: what looks everywhere says nothing.

    attention (stacks, n, s), summed over layers -> the same shape.
    """
    spread, mean = attention.std(dim=1, keepdim=True, correction=0), attention.mean(dim=1, keepdim=True)
    return attention * spread / mean.clamp(min=torch.finfo(attention.dtype).tiny)


def self_refine(maps: Tensor, self_attention: Tensor, times: int) -> Tensor:
    """M <- MinMax(S M): places that attend to each other share their claim (Wang et al. 2023, DiffSegmenter's kind).

    self_attention S (stacks, n, n), rows summing to 1 (or to the number of layers) -> the shape of maps.
    """
    for _ in range(times):
        maps = min_max(maps @ self_attention.transpose(-1, -2))
    return maps


def sharpen_map(maps: Tensor, floor: float, exponent: float) -> Tensor:
    """max(0, (M - floor) / (1 - floor)) ** exponent: weak claims go, and what is left keeps its 0 and its 1."""
    return ((maps - floor) / (1 - floor)).clamp(0, 1) ** exponent


def refine_maps(maps: Tensor, grid: tuple[int, int], settings: MapRefinement, self_attention: Tensor | None = None) -> Tensor:
    """Maps (stacks, fg, n) of a grid (height, width) after self-attention, smoothing, floor and sharpening, in that order.

    With all of them off the maps come back untouched.
    """
    if settings.self_attention and self_attention is not None:
        maps = self_refine(maps, self_attention, settings.self_attention)
    if settings.smoothing:
        planes = rearrange(maps, "stack fg (h w) -> stack fg h w", h=grid[0])
        maps = min_max(smooth_map(planes, settings.smoothing).flatten(-2))
    if settings.floor or settings.sharpening != 1:
        maps = sharpen_map(maps, settings.floor, settings.sharpening)
    return maps
