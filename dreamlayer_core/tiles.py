"""Large pictures decoded in overlapping tiles, which are blended where they overlap.

Neither decoder can be exact so: their group norms and attention see the whole of what they are given. What it changes is
measured in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from .config import TilingConfig

__all__ = ["decode_tiles", "tile_spans", "vae_in_tiles"]


def tile_spans(length: int, tiling: TilingConfig, multiple: int) -> list[tuple[int, int]]:
    """(start, stop) of the tiles of one side: equally long, each a multiple, of ``tiling.tile`` at most where that can be.

    ``length`` must be a multiple. Neighbours overlap by ``tiling.overlap`` or more.
    """
    overlap = -(-tiling.overlap // multiple) * multiple
    longest = max(tiling.tile // multiple * multiple, overlap + multiple)
    if length <= longest:
        return [(0, length)]
    count = -(-(length - overlap) // (longest - overlap))
    tile = -(-(length + (count - 1) * overlap) // count // multiple) * multiple
    starts = [(length - tile) * index // (count - 1) // multiple * multiple for index in range(count)]
    return [(start, start + tile) for start in starts]


def decode_tiles(
    decode: Callable[[Tensor, Tensor], Tensor], picture: Tensor, latent: Tensor, tiling: TilingConfig, multiple: int
) -> Tensor:
    """``decode`` of a picture (b, c, H, W) and its latent (b, d, h, w), tile by tile -> (b, e, H, W).

    H and W are multiples, and whole times h and w. A tile's share rises evenly from its edges, where it has neighbours.
    """
    height, width = picture.shape[-2:]
    scale = height // latent.shape[-2]
    total = weights = torch.zeros(1, device=picture.device)
    for top, bottom in tile_spans(height, tiling, multiple):
        for left, right in tile_spans(width, tiling, multiple):
            cells = (slice(top // scale, bottom // scale), slice(left // scale, right // scale))
            decoded = decode(picture[..., top:bottom, left:right], latent[..., cells[0], cells[1]]).float()
            if total.ndim == 1:
                total = decoded.new_zeros(*decoded.shape[:2], height, width)
                weights = decoded.new_zeros(height, width)
            share = _ramp(top, bottom, height, tiling.overlap)[:, None] * _ramp(left, right, width, tiling.overlap)
            share = share.to(decoded.device)
            total[..., top:bottom, left:right] += decoded * share
            weights[top:bottom, left:right] += share
    return (total / weights).to(picture.dtype)


def _ramp(start: int, stop: int, length: int, overlap: int) -> Tensor:
    """Weights of one tile along a side (stop - start,), in (0, 1]."""
    places = torch.arange(stop - start) + 1.0
    rising = places if start else torch.full_like(places, overlap + 1)
    falling = places.flip(0) if stop < length else torch.full_like(places, overlap + 1)
    return (torch.minimum(rising, falling) / (overlap + 1)).clamp(max=1)


@contextmanager
def vae_in_tiles(vae: Any, size: tuple[int, int], scale: int, tiling: TilingConfig) -> Generator[None]:
    """Switch on diffusers' own tiling of a VAE for pictures (height, width) that are to have tiles, and undo it.

    ``scale`` is the VAE's, pixels per cell; tiles and their overlap are of whole cells. Others are decoded as without.
    """
    if not tiling.splits(size):
        yield
        return
    cells = max(2, tiling.tile // scale)
    # diffusers rounds what it multiplies by the factor down: a float just below the true one would misplace tiles
    overlap = Fraction(min(-(-tiling.overlap // scale), cells - 1), cells)
    settings = {
        "use_tiling": True, "tile_sample_min_size": cells * scale, "tile_latent_min_size": cells, "tile_overlap_factor": overlap}
    stock = {name: getattr(vae, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(vae, name, value)
        yield
    finally:
        for name, value in stock.items():
            setattr(vae, name, value)
