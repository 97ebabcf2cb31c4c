"""Which object a shadow belongs to: the one that it leads to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InputError

__all__ = ["object_shares", "path_lengths"]

_CELLS = 128  # a side: shares are smooth, and paths are walked cell by cell
_STRONG = 0.06  # strength of an effect from which a way through it is short
_OFF = 20.0  # how many times longer a cell without effect is
_REACH = 2.5  # object sizes: how far from its object an effect belongs to no object rather than to it
_CLEAR = 12.0  # how sharply shares turn from the nearest object to the next


def object_shares(alphas: Tensor, strength: Tensor) -> Tensor:
    """How much of an effect on the ground belongs to each object: alphas (f, h, w) -> (f, h, w), their sum at most 1.

    strength (h, w) in [0, 1]: how much the effect changes. The way from a pixel to an object is short through the effect and
    long where there is none; it starts in the object's lower half, near where it stands, and is counted in sizes of the
    object. A pixel belongs to the object with the shortest way, and to none where all are long: a picture that is darker
    all over has no owner. Raises InputError for other shapes.
    """
    if alphas.ndim != 3 or tuple(strength.shape) != tuple(alphas.shape[1:]):
        raise InputError(f"got alphas {tuple(alphas.shape)} and strength {tuple(strength.shape)}; give (f, h, w) and (h, w)")
    if len(alphas) == 0:
        return alphas
    small = _shrunk(torch.cat([alphas, strength[None]]).float())
    masks, effect = small[:-1] > 0.5, small[-1]
    step = 1 + _OFF * (1 - (effect / _STRONG).clamp(0, 1))
    sizes = masks.flatten(1).sum(1).sqrt().clamp_min(1)
    # What an object hides is its own ground: the way through it is always short.
    ways = path_lengths(_lower_halves(masks), torch.where(masks, 1.0, step)) / sizes[:, None, None]
    closeness = torch.cat([torch.exp(-_CLEAR * ways), torch.full_like(ways[:1], torch.e ** (-_CLEAR * _REACH))])
    shares = (closeness / closeness.sum(0))[:-1]
    return functional.interpolate(shares[None], alphas.shape[1:], mode="bilinear")[0].to(alphas.dtype)


def _lower_halves(masks: Tensor) -> Tensor:
    """Masks (f, h, w) without their upper half; what is empty stays so."""
    rows = masks.any(dim=2)
    numbers = torch.arange(rows.shape[1], device=masks.device)
    top = torch.where(rows, numbers, rows.shape[1]).amin(dim=1)
    bottom = torch.where(rows, numbers, -1).amax(dim=1)
    return masks & (numbers >= ((top + bottom) / 2)[:, None])[..., None]


def path_lengths(starts: Tensor, step: Tensor) -> Tensor:
    """Length of the shortest way from any True cell of starts (f, h, w), a cell costing `step` (f or 1, h, w) -> (f, h, w).

    Ways go to all eight neighbours; infinite for a map without start.
    """
    lengths = torch.where(starts, 0.0, torch.inf).to(step)
    while True:
        nearest = -functional.max_pool2d(-lengths, 3, stride=1, padding=1)
        shorter = torch.minimum(lengths, nearest + step)
        if torch.equal(shorter, lengths):
            return lengths
        lengths = shorter


def _shrunk(maps: Tensor) -> Tensor:
    """Maps (n, h, w) at no more than `_CELLS` cells a side."""
    height, width = maps.shape[1:]
    scale = max(1.0, max(height, width) / _CELLS)
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    return maps if scale == 1 else functional.interpolate(maps[None], size, mode="area")[0]
