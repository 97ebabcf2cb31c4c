"""Checks of named tensors that came from a file. Each raises WeightsError, naming the first few that are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .errors import WeightsError

__all__ = ["check_shapes", "check_values", "some_names"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Exactly these names, with exactly these shapes."""
    if missing := sorted(expected.keys() - tensors.keys()):
        raise WeightsError(f"missing {some_names(missing)}; the file is incomplete or made for another model")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        raise WeightsError(
            f"unexpected {some_names(unexpected)}; the file is of another kind or made for another model"
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise WeightsError(
                f"{name} has shape {tuple(tensors[name].shape)}, expected {shape}; "
                "the file is damaged or made for another model"
            )


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """float16, bfloat16 or float32, and every value finite."""
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise WeightsError(f"{name} is {tensor.dtype}; convert the file to float16, bfloat16 or float32")
        if bad := int((~torch.isfinite(tensor)).sum()):
            raise WeightsError(
                f"{name} has {bad} NaN or infinite values of {tensor.numel()}; fetch or train the file again"
            )


def some_names(names: Sequence[str]) -> str:
    """The first three names and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
