"""Where is each foreground in the global picture? Read it from cross-attention (Sec. 3.1, Eq. 3 and 4).

A span is `(start, length)` in tokens; `prompts.TokenSpan` is one. All of this is computed in fp32, also under autocast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..errors import InputError

__all__ = ["cross_attention_map", "min_max", "paste_maps", "smooth_map", "spatial_map", "spatial_maps"]


def cross_attention_map(query: Tensor, key: Tensor) -> Tensor:
    """M = softmax(Q Kᵀ / √d), averaged over heads (Eq. 3). The caller sums it over the J layers of the stage.

    query (b, heads, n, d), key (b, heads, s, d) -> (b, n, s) fp32; every row of it sums to 1.
    """
    with torch.autocast(query.device.type, enabled=False):  # fp32: near-constant maps lose their range in fp16
        scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        return scores.softmax(dim=-1).mean(dim=1)


def spatial_map(attention: Tensor, span: tuple[int, int]) -> Tensor:
    """M_G = MinMax(Σ over the span's tokens of Σ_j M_j), one foreground's raw context map (Eq. 4).

    attention (b, n, s), summed over the J layers -> (b, n) fp32 in [0, 1]. An empty span gives a map of zeros.
    Raises InputError for a span that leaves the s tokens.
    """
    return spatial_maps(attention, [[span]] * len(attention))[:, 0]


def spatial_maps(attention: Tensor, spans: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Eq. 4 for every foreground of every stack at once.

    attention (stacks, n, s), spans[stack][foreground] -> (stacks, fg, n) fp32 in [0, 1].
    Raises InputError for a span that leaves the s tokens, or unless every stack has a list of spans, all equally long.
    """
    _check_spans(spans, stacks=len(attention), tokens=attention.shape[-1])
    bounds = torch.tensor(spans, device=attention.device)
    start, length = bounds.reshape(len(spans), -1, 2, 1).unbind(dim=2)
    position = torch.arange(attention.shape[-1], device=attention.device)
    inside = ((position >= start) & (position < start + length)).float()
    with torch.autocast(attention.device.type, enabled=False):
        return min_max(inside @ attention.float().transpose(-1, -2))


def _check_spans(spans: Sequence[Sequence[tuple[int, int]]], *, stacks: int, tokens: int) -> None:
    counts = [len(stack_spans) for stack_spans in spans]
    if len(counts) != stacks or min(counts, default=0) < 1 or min(counts) != max(counts):
        raise InputError(f"got {counts} spans per stack for {stacks} stacks; give every stack one span per foreground")
    for start, length in (span for stack_spans in spans for span in stack_spans):
        if start < 0 or length < 0 or start + length > tokens:
            raise InputError(
                f"got the token span {(start, length)} for an attention over {tokens} tokens; "
                "pass the spans of the embedding that this attention was computed with"
            )


def min_max(maps: Tensor) -> Tensor:
    """Scale each map (..., n) to [0, 1] over its last axis, in fp32; a constant map, which points nowhere, to zeros."""
    maps = maps.float()
    low, high = maps.amin(dim=-1, keepdim=True), maps.amax(dim=-1, keepdim=True)
    spread = high - low
    # What differs by a few units in the last place is rounding, and dividing by it would show noise as a shape.
    # `<=` and not `not >`: a NaN stays a NaN instead of hiding as zeros.
    constant = spread <= 32 * torch.finfo(torch.float32).eps * high.abs()
    return torch.where(constant, 0.0, (maps - low) / torch.where(constant, 1.0, spread))


def smooth_map(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of maps (..., h, w), sigma in cells of the map; sigma 0 returns them as they are.

    For the training-free form (N = 0), whose raw maps are grainy. Edges repeat their last cell, so a constant map stays
    constant and values stay within the range they had. The peak sinks: pass the result to `min_max` to raise it again.
    Raises InputError for a negative sigma.
    """
    if not sigma >= 0:
        raise InputError(f"got sigma {sigma}; give 0 (off) or a positive number of cells")
    if sigma == 0:
        return maps
    kernel = _gaussian(sigma, maps)
    radius = len(kernel) // 2
    with torch.autocast(maps.device.type, enabled=False):
        planes = maps.float().reshape(-1, 1, *maps.shape[-2:])
        planes = functional.pad(planes, (radius, radius, radius, radius), mode="replicate")
        planes = functional.conv2d(planes, rearrange(kernel, "k -> 1 1 1 k"))
        planes = functional.conv2d(planes, rearrange(kernel, "k -> 1 1 k 1"))
    return planes.reshape(maps.shape)


def paste_maps(parts: Mapping[tuple[int, ...], Tensor], size: tuple[int, int]) -> Tensor:
    """Maps of parts of a picture where they lie on the whole of it, the larger where they overlap, 0 between them.

    parts: (height, width, top, left) in latent cells -> (fg, h, w), all of one stage; size (height, width) of the whole
    latent -> (fg, H, W). Raises InputError without a part.
    """
    if not parts:
        raise InputError("got no maps to paste; give at least one part of the picture")
    (height, width, *_), first = next(iter(parts.items()))
    scales = height / first.shape[-2], width / first.shape[-1]
    whole = first.new_zeros(len(first), *(math.ceil(side / scale) for side, scale in zip(size, scales, strict=True)))
    for (_, _, *corner), part in parts.items():
        y, x = (min(round(start / scale), there - here) for start, scale, there, here in zip(
            corner, scales, whole.shape[-2:], part.shape[-2:], strict=True))
        region = whole[:, y : y + part.shape[-2], x : x + part.shape[-1]]
        region.copy_(torch.maximum(region, part))
    return whole


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=torch.float32)
    return (-0.5 * (offsets / sigma) ** 2).softmax(dim=0)
