"""Attention of every cell to the same cell of the other rows: ours, beside the shared attention (Eq. 10, 11).

Shared attention finds by content what another row shows; nothing tells it that two cells lie at the same place, and in the
noise where it is decided who stands where, content is faint. This one looks at the same place alone, and learns what a
row should know of it; the context maps (Eq. 5) tell it where in the whole picture a foreground is meant to stand.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError

__all__ = ["CELL_HEADS", "CellAttention"]

CELL_HEADS = 4
_ROLES = 3  # background, foreground, global row


class CellAttention(nn.Module):
    """What a row adds to its shared attention, from the same cell of all rows of its picture.

    Made of the queries, keys and values of the shared attention, so that Eq. 9 and a row's own weights hold here, too. The
    last projection starts at zero: untrained, it changes nothing. ``channels`` of the attention layer; ``hidden`` is the
    width inside. InputError where the heads do not divide it.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1 or hidden % CELL_HEADS:
            raise InputError(f"got a cell attention of width {hidden}; give a multiple of {CELL_HEADS}")
        self.query, self.key, self.value = (nn.Linear(channels, hidden, bias=False) for _ in range(3))
        self.output = nn.Linear(hidden, channels, bias=False)
        self.roles = nn.Parameter(torch.randn(2, _ROLES, hidden) * hidden**-0.5)  # of queries and of keys
        self.mapped = nn.Parameter(torch.zeros(2, hidden))  # what a context map of 1 adds to a foreground's key and value
        nn.init.zeros_(self.output.weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, rows: int, *, maps: Tensor | None = None, mask: Tensor | None = None,
    ) -> Tensor:
        """Projected tokens (stacks * rows, n, channels), 3 or more rows of one stack next to each other -> the same shape
        and dtype.

        ``maps``: the foregrounds' context maps (stacks, rows - 2, n) in [0, 1], which say to all rows where they stand.
        ``mask``: boolean (rows, rows), True = the first row may look at the second, see `inversion_mask`.
        """
        background, foreground, whole = self.roles.unbind(1)
        asking, asked = torch.stack([background, *[foreground] * (rows - 2), whole], 1)[:, None, :, None]
        own = self.output.weight.dtype
        queries, keys, values = (
            rearrange(layer(x.to(own)), "(stack row) n c -> stack row n c", row=rows)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value)))
        keys = keys + asked
        if maps is not None:
            where = functional.pad(maps, (0, 0, 1, 1)).to(own)[..., None]
            keys, values = keys + where * self.mapped[0], values + where * self.mapped[1]
        queries, keys, values = (rearrange(x, "stack row n (heads d) -> stack n heads row d", heads=CELL_HEADS)
                                 for x in (queries + asking, keys, values))
        # Written out: a picture has few rows, and a fused kernel takes longer for so many short sequences.
        scores = (queries * keys.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask.to(scores.device), float("-inf"))
        attended = rearrange(scores.softmax(-1).to(values.dtype) @ values, "stack n heads row d -> (stack row) n (heads d)")
        return self.output(attended).to(query.dtype)
