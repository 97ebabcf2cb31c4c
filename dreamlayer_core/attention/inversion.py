"""The mask of joint attention during DDIM inversion (Eq. 14-16)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["inversion_mask"]


def inversion_mask(
    rows: int, *, queries: Literal["all", "global"] = "all", device: torch.device | str | None = None
) -> Tensor:
    """Which rows may be seen while a picture is inverted: the global one, the last of each stack (Eq. 14-16).

    Else rows that hold the same picture under other prompts disturb the global row, and foregrounds stay in the
    background. Pass the result to `joint_attention(mask=...)`: bool (rows, rows), the first looks at the second; `True`
    is 0 and `False` is −∞ of Eq. 15, for every query and key of the two.

    queries="all" hides the other rows' keys from every query, which is how Eq. 15 reads: its mask depends on the key
    alone. queries="global" hides them from the global row only, and the other rows see all.
    """
    is_global = torch.arange(rows, device=device) == rows - 1
    if queries == "all":
        return is_global[None, :].repeat(rows, 1)
    return is_global[None, :] | ~is_global[:, None]
