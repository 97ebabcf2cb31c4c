"""Layer-shared self-attention: all rows of a picture attend to each other (Sec. 3.2, Eq. 9-11)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..errors import InputError

__all__ = ["Attend", "fuse_global", "in_chunks", "join_rows", "joint_attention", "own_attention", "pool_tokens", "resize_map",
           "shares_layers", "split_rows"]

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Tokens (b, n, heads * d) of queries, keys and values, and what is added to the scores, (b or 1, 1, 1, keys) or None."""

_SCORE_BYTES = 12  # of one query and key


def shares_layers(name: str) -> bool:
    """Whether an attention layer, by its name in diffusers' UNet, is one of those that Eq. 9-11 act on."""
    return name.startswith("up_blocks.") and name.endswith("attn1")


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
    query: Tensor, key: Tensor, value: Tensor, rows: int, *, heads: int, mask: Tensor | None = None,
    pooled: tuple[int, int] | None = None, regions: Tensor | None = None, memory: int | None = None,
    attend: Attend | None = None,
) -> Tensor:
    """O^i = softmax(Q(z^i) · K(z̃^c)ᵀ / √d) · V(z̃^c) with z̃^c all rows of the picture in one sequence (Eq. 10, 11).

    Every row sees the same keys, so the queries of all rows go through one attention and no key is copied. Queries are
    projected from z, keys and values from z̃.

    query, key, value (stacks * rows, n, heads * d), rows of one stack next to each other -> the same shape as query.
    mask: boolean (rows, rows), True = the first row may look at the second, see `inversion_mask`.
    What follows is an approximation; in both a row sees its own keys as they are, and so many of the others':
    pooled: (height, width) of a row, n = height * width; their averages over 2x2 cells, weighted by what they stand for.
    regions: boolean (stacks, rows, n); those where it is True.
    memory: bytes that the scores may take in an attention that writes them out; the queries go in chunks then. Exact.
    PyTorch's fused attention never writes them out, and needs no chunks at any size.
    attend: the attention itself, PyTorch's without.
    Raises InputError if the batch is not made of whole stacks, and for masks and regions that don't fit it.
    """
    attend = in_chunks(attend or partial(_attend, heads=heads), heads, memory)
    query, key, value = (join_rows(x, rows) for x in (query, key, value))
    if mask is None and pooled is None and regions is None:
        return split_rows(attend(query, key, value, None), rows)
    query, key, value = (rearrange(x, "stack (row n) c -> stack row n c", row=rows) for x in (query, key, value))
    visible = _visible(mask, rows)
    if pooled is not None and regions is not None:
        raise InputError("got keys to pool and regions to restrict them to; give one of them")
    seen: Callable[[int], tuple[Tensor, Tensor, Tensor | None]]
    if regions is not None:
        seen = partial(_in_regions, key, value, visible, _fitting(regions, key))
    elif pooled is not None:
        seen = _Pooled(key, value, visible, pooled).seen
    else:
        return _masked(query, key, value, visible, attend).flatten(0, 1)
    attended = [attend(query[:, row], *seen(row)) for row in range(rows)]
    return rearrange(torch.stack(attended, 1), "stack row n c -> (stack row) n c")


def own_attention(query: Tensor, key: Tensor, value: Tensor, *, heads: int, memory: int | None = None) -> Tensor:
    """Attention of every row to its own keys (b, s, heads * d), for queries (b, n, heads * d); ``memory`` as above."""
    return in_chunks(partial(_attend, heads=heads), heads, memory)(query, key, value, None)


def in_chunks(attend: Attend, heads: int, memory: int | None) -> Attend:
    """The same attention over chunks of queries, of which none has scores of more than ``memory`` bytes; None: as it is.

    A chunk has one query at least. Scores are counted as PyTorch's unfused attention keeps them: scores, biased
    scores and shares in fp32 at a time.
    """
    if memory is None:
        return attend

    def attend_chunks(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        size = max(1, memory // (_SCORE_BYTES * len(query) * heads * key.shape[1]))
        parts = [attend(part, key, value, bias) for part in query.split(size, dim=1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    return attend_chunks


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, heads: int) -> Tensor:
    parts = [rearrange(x, "b n (heads d) -> b heads n d", heads=heads) for x in (query, key, value)]
    attended = functional.scaled_dot_product_attention(*parts, attn_mask=bias)
    return rearrange(attended, "b heads n d -> b n (heads d)")


def _visible(mask: Tensor | None, rows: int) -> list[list[bool]]:
    """Which rows each row may look at. InputError for a mask of another shape, or one that blinds a row."""
    if mask is None:
        return [[True] * rows] * rows
    if tuple(mask.shape) != (rows, rows) or not bool(mask.any(dim=1).all()):
        raise InputError(
            f"got a mask of shape {tuple(mask.shape)} that leaves {int(mask.any(dim=-1).sum())} rows something to see; "
            f"give one of {(rows, rows)}, with a row to see for each")
    return mask.tolist()


def _masked(query: Tensor, key: Tensor, value: Tensor, visible: list[list[bool]], attend: Attend) -> Tensor:
    """Rows that see the same ones go through one attention, of the keys that they see: a single one for Eq. 15's mask."""
    attended = torch.empty_like(query)
    for sees in dict.fromkeys(map(tuple, visible)):
        rows = [row for row, one in enumerate(visible) if tuple(one) == sees]
        others = [row for row, is_seen in enumerate(sees) if is_seen]
        of_rows, keys, values = query[:, rows].flatten(1, 2), key[:, others].flatten(1, 2), value[:, others].flatten(1, 2)
        attended[:, rows] = attend(of_rows, keys, values, None).unflatten(1, (len(rows), -1))
    return attended


def _fitting(regions: Tensor, key: Tensor) -> Tensor:
    if regions.shape != key.shape[:3]:
        raise InputError(f"got regions {tuple(regions.shape)} for keys {tuple(key.shape)}; give {tuple(key.shape[:3])}")
    return regions


def _in_regions(
    key: Tensor, value: Tensor, visible: list[list[bool]], regions: Tensor, row: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys of the cells that this row sees. Stacks see different numbers: the shorter are filled up, and hidden there."""
    sees = regions & torch.tensor(visible[row], device=regions.device)[:, None]
    sees[:, row] = visible[row][row]
    flat = sees.flatten(1)
    counts = flat.sum(dim=1)
    length = int(counts.max())
    if not int(counts.min()):
        raise InputError(f"got regions and a mask that leave row {row} nothing to see; let it see itself or a whole row")
    order = flat.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :length]
    index = order[..., None].expand(-1, -1, key.shape[-1])
    hidden = torch.arange(length, device=flat.device) >= counts[:, None]
    bias = hidden.to(key.dtype).masked_fill(hidden, float("-inf"))[:, None, None] if bool(hidden.any()) else None
    return key.flatten(1, 2).gather(1, index), value.flatten(1, 2).gather(1, index), bias


class _Pooled:
    """Keys and values (stack, row, n, c) of all rows at half the resolution, of which a row sees those of the others."""

    def __init__(self, key: Tensor, value: Tensor, visible: list[list[bool]], grid: tuple[int, int]) -> None:
        self.key, self.value, self.visible = key, value, visible
        self.small_key, self.small_value = pool_tokens(key, grid), pool_tokens(value, grid)
        # An average stands for up to four cells. Where they are alike, this makes its share of the softmax theirs.
        self.weight = _covered(grid, key).log()

    def seen(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        others = [index for index, sees in enumerate(self.visible[row]) if sees and index != row]
        own = [row] if self.visible[row][row] else []
        key, value = (torch.cat([whole[:, own].flatten(1, 2), small[:, others].flatten(1, 2)], dim=1)
                      for whole, small in ((self.key, self.small_key), (self.value, self.small_value)))
        near = self.weight.new_zeros(len(own) * self.key.shape[2])
        return key, value, torch.cat([near, self.weight.repeat(len(others))])[None, None, None]


def pool_tokens(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (stack, row, n, c) of a grid (height, width) averaged over 2x2 cells -> (stack, row, cells, c).

    At the right and lower edge of an odd grid an average is of what cells there are.
    """
    planes = rearrange(tokens, "stack row (h w) c -> (stack row) c h w", h=grid[0], w=grid[1])
    small = functional.avg_pool2d(planes, 2, ceil_mode=True, count_include_pad=False)
    return rearrange(small, "(stack row) c h w -> stack row (h w) c", stack=len(tokens))


def _covered(grid: tuple[int, int], like: Tensor) -> Tensor:
    """How many cells each average of ``pool_tokens`` is of, (cells,)."""
    ones = like.new_ones(1, 1, *grid)
    return (functional.avg_pool2d(ones, 2, ceil_mode=True, divisor_override=1)).flatten()


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
