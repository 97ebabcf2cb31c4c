"""Holes in a picture filled smoothly from around them: no texture, no model, nothing random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .composite import defringe
from .errors import InputError

__all__ = ["fill_smoothly"]


def fill_smoothly(values: Tensor, known: Tensor, *, steps: int = 48) -> Tensor:
    """Values (..., 3, h, w) in [0, 1] whose holes, where the boolean `known` (..., 1, h, w) is False, hold a smooth surface.

    What is known stays bit for bit. A pyramid of means gives the start, `steps` rounds of Laplace's equation (every
    pixel the mean of its four neighbours) take its blocks away. Where nothing is known at all the values stay as they
    are. Raises InputError for shapes that do not fit.
    """
    expected = (*values.shape[:-3], 1, *values.shape[-2:])
    if values.ndim < 3 or values.shape[-3] != 3 or tuple(known.shape) != expected:
        raise InputError(f"got values {tuple(values.shape)} and known {tuple(known.shape)}; give (..., 3, h, w) and "
                         f"{expected}")
    if bool(known.all()) or not bool(known.any()):
        return values
    flat, fixed = values.reshape(-1, *values.shape[-3:]), known.reshape(-1, *known.shape[-3:])
    filled = torch.where(fixed, flat, defringe(flat, fixed.to(flat.dtype), matte=None))
    for _ in range(steps):
        filled = torch.where(fixed, flat, _neighbours(filled))
    return filled.reshape(values.shape)


def _neighbours(values: Tensor) -> Tensor:
    """The mean of the four neighbours of every pixel (n, 3, h, w); beyond the edge lies the edge."""
    wide = functional.pad(values, (1, 1, 1, 1), mode="replicate")
    return (wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]) / 4
