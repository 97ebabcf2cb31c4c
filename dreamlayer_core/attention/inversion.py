"""The mask of joint attention during DDIM inversion (Eq. 14-16)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["inversion_mask"]


def inversion_mask(
    rows: int,
    tokens: int,
    *,
    queries: Literal["all", "global"] = "all",
    device: torch.device | str | None = None,
) -> Tensor:
    """Which keys may be seen while a picture is inverted: those of the global row, the last of each stack (Eq. 14-16).

    Else rows that hold the same picture under other prompts disturb the global row, and foregrounds stay in the
    background. Pass the result to `joint_attention(mask=...)`; `True` is 0 and `False` is −∞ of Eq. 15.

    queries="all" hides the other rows' keys from every query, which is how Eq. 15 reads: its mask depends on the key
    alone. -> bool (1, rows * tokens). queries="global" hides them from the global row only, and the other rows see
    all. -> bool (rows * tokens, rows * tokens), so mind its size.
    """
    is_global = torch.arange(rows * tokens, device=device) >= (rows - 1) * tokens
    if queries == "all":
        return is_global[None, :]
    return is_global[None, :] | ~is_global[:, None]
