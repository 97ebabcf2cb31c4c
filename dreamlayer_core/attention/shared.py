"""Layer-shared self-attention: all rows of a picture attend to each other (Sec. 3.2, Eq. 9-11)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..errors import InputError

__all__ = ["fuse_global", "join_rows", "joint_attention", "resize_map", "split_rows"]


def fuse_global(tokens: Tensor, maps: Tensor) -> Tensor:
    """z̃^i = z^{k+1} · M^i + z^i · (1 − M^i) for the foregrounds; background and global row stay as they are (Eq. 9).

    tokens (stacks, rows, n, c), rows = background, foregrounds, global; maps (stacks, rows - 2, n) in [0, 1], already
    at the block's resolution -> (stacks, rows, n, c), same dtype. Exactly z^i where M is 0, z^{k+1} where it is 1.
    Raises InputError if the maps don't fit the tokens.
    """
    stacks, rows, n, _ = tokens.shape
    if maps.shape != (stacks, rows - 2, n):
        raise InputError(
            f"got maps {tuple(maps.shape)} for tokens {tuple(tokens.shape)}; give one map per foreground, "
            f"{(stacks, rows - 2, n)}"
        )
    background, foregrounds, whole = tokens[:, :1], tokens[:, 1:-1], tokens[:, -1:]
    weights = rearrange(maps, "stack fg n -> stack fg n 1").to(tokens.dtype)
    return torch.cat([background, torch.lerp(foregrounds, whole, weights), whole], dim=1)


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps or alphas (..., h, w) in [0, 1] at another resolution: bilinear, averaging what a smaller cell covers.

    size (height, width) -> (..., height, width), same dtype, in [0, 1]; at their own size they come back untouched.
    """
    height, width = maps.shape[-2:]
    if (height, width) == tuple(size):
        return maps
    planes = maps.reshape(1, -1, height, width).float()
    shrinks = size[0] < height or size[1] < width
    planes = functional.interpolate(planes, size, mode="bilinear", antialias=shrinks).clamp(0, 1)
    return planes.reshape(*maps.shape[:-2], *size).to(maps.dtype)


def joint_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: int, *, mask: Tensor | None = None, heads: int
) -> Tensor:
    """O^i = softmax(Q(z^i) · K(z̃^c)ᵀ / √d) · V(z̃^c) with z̃^c all rows of the picture in one sequence (Eq. 10, 11).

    Every row sees the same keys, so the queries of all rows go through one attention and no key is copied. Queries are
    projected from z, keys and values from z̃.

    query, key, value (stacks * rows, n, heads * d), rows of one stack next to each other -> the same shape as query.
    mask: boolean, True = may look, broadcastable to (rows * n, rows * n), see `inversion_mask`.
    Raises InputError if the batch is not made of whole stacks.
    """
    joined = [rearrange(join_rows(x, rows), "b n (heads d) -> b heads n d", heads=heads) for x in (query, key, value)]
    attended = functional.scaled_dot_product_attention(*joined, attn_mask=mask)
    return split_rows(rearrange(attended, "b heads n d -> b n (heads d)"), rows)


def join_rows(tokens: Tensor, rows: int) -> Tensor:
    """(stacks * rows, n, c) -> (stacks, rows * n, c): all rows of a picture in one sequence (Eq. 10), without a copy.

    Raises InputError if the batch is not made of whole stacks.
    """
    if len(tokens) % rows:
        raise InputError(f"got {len(tokens)} layer rows; with {rows} rows a stack, give a multiple of {rows}")
    return rearrange(tokens, "(stack row) n c -> stack (row n) c", row=rows)


def split_rows(tokens: Tensor, rows: int) -> Tensor:
    """(stacks, rows * n, c) -> (stacks * rows, n, c): the inverse of ``join_rows``."""
    return rearrange(tokens, "stack (row n) c -> (stack row) n c", row=rows)
