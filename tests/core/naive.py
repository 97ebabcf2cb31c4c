"""CACA and LSSA written out slowly: a loop over rows and heads, hooked in place of every attention layer's forward.

Shares no code with the binding but the context-aware layers, which have their own tests. Which layers act is given by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.prompts import LayeredEmbedding


@dataclass(kw_only=True, eq=False)
class Naive:
    """Batches are [halves][stacks][rows]; the last half is the conditional one."""

    embeddings: Sequence[LayeredEmbedding]
    context_sites: Sequence[str]
    grids: Mapping[int, tuple[int, int]]  # tokens -> (height, width)
    adapter: LayerAdapter | None = None
    caca: bool = True
    lssa: bool = True
    fuses: bool = True  # t >= T_G
    halves: int = 1
    maps: dict[tuple[int, int], Tensor] = field(default_factory=lambda: dict[tuple[int, int], Tensor]())
    foreground_maps: dict[tuple[int, int], Tensor] = field(default_factory=lambda: dict[tuple[int, int], Tensor]())
    _read: dict[tuple[int, int], list[Tensor]] = field(default_factory=lambda: dict[tuple[int, int], list[Tensor]]())
    _features: dict[int, list[Tensor]] = field(default_factory=lambda: dict[int, list[Tensor]]())

    @property
    def rows(self) -> int:
        return len(self.embeddings[0].embeddings)

    def weight(self, name: str, base: Tensor, row: int) -> Tensor:
        if self.adapter is None:
            return base
        own = self.adapter.foreground if 0 < row < self.rows - 1 else self.adapter.shared
        return cast(Tensor, own[name.replace(".", "/")])

    def attention(self, name: str, module: Any, hidden: Tensor, text: Tensor | None) -> Tensor:
        output = torch.zeros_like(hidden)
        stacks = len(self.embeddings)
        joins = self.lssa and name.startswith("up_blocks") and name.endswith("attn1")
        for half in range(self.halves):
            for stack in range(stacks):
                first = (half * stacks + stack) * self.rows
                keys: list[Tensor] = []
                values: list[Tensor] = []
                for row in range(self.rows):
                    source = self.source(name, hidden, text, first, stack, row)
                    keys.append(source @ self.weight(f"{name}.to_k", module.to_k.weight, row).T)
                    values.append(source @ self.weight(f"{name}.to_v", module.to_v.weight, row).T)
                for row in range(self.rows):
                    query = hidden[first + row] @ module.to_q.weight.T
                    key = torch.cat(keys) if joins else keys[row]
                    value = torch.cat(values) if joins else values[row]
                    attended, shares = self.heads(query, key, value, module.heads)
                    output[first + row] = module.to_out[0](attended)
                    if self.caca and name in self.context_sites and half == self.halves - 1:
                        self.collect(stack, row, shares, hidden[first + row])
        return output

    def heads(self, query: Tensor, key: Tensor, value: Tensor, number: int) -> tuple[Tensor, Tensor]:
        width = query.shape[1] // number
        outputs: list[Tensor] = []
        shares: list[Tensor] = []
        for head in range(number):
            own = slice(head * width, (head + 1) * width)
            share = torch.softmax(query[:, own] @ key[:, own].T / width**0.5, dim=1)
            outputs.append(share @ value[:, own])
            shares.append(share)
        return torch.cat(outputs, 1), torch.stack(shares).mean(0)

    def source(self, name: str, hidden: Tensor, text: Tensor | None, first: int, stack: int, row: int) -> Tensor:
        if text is not None:
            return text[first + row]
        own, whole = hidden[first + row], hidden[first + self.rows - 1]
        fuses = self.caca and self.fuses and name.startswith("up_blocks") and 0 < row < self.rows - 1
        if not fuses:
            return own
        context = self.maps[stack, row]
        size = self.grids[len(own)]
        shrinks = size[0] < context.shape[0]
        resized = functional.interpolate(context[None, None], size, mode="bilinear", antialias=shrinks)
        share = resized.clamp(0, 1).reshape(-1, 1)
        return whole * share + own * (1 - share)

    def collect(self, stack: int, row: int, shares: Tensor, features: Tensor) -> None:
        if row == 0:
            return
        self._read.setdefault((stack, row), []).append(shares)
        if row < self.rows - 1:
            if len(self._read[stack, row]) == len(self.context_sites):
                span = self.embeddings[stack].own_spans[row]
                self.foreground_maps[stack, row] = self.raw(self._read[stack, row], span)
            return
        self._features.setdefault(stack, []).append(features)
        if len(self._read[stack, row]) == len(self.context_sites):
            for foreground in range(1, self.rows - 1):
                context = self.raw(self._read[stack, row], self.embeddings[stack].global_spans[foreground])
                self.maps[stack, foreground] = self.refined(context, torch.stack(self._features[stack]).sum(0))

    def raw(self, shares: Sequence[Tensor], span: tuple[int, int]) -> Tensor:
        cells = torch.zeros(len(shares[0]))
        for share in shares:
            for token in range(span[0], span[0] + span[1]):
                cells = cells + share[:, token]
        return ((cells - cells.min()) / (cells.max() - cells.min())).reshape(self.grids[len(cells)])

    def refined(self, context: Tensor, features: Tensor) -> Tensor:
        if self.adapter is None:
            return context
        return self.adapter.context_layers(context.reshape(1, 1, -1), features[None]).reshape(context.shape)


@contextmanager
def replaced_attention(unet: UNet2DConditionModel, attention: Callable[..., Tensor]) -> Generator[None]:
    """Let ``attention`` (name, module, tokens, text or None) stand in for every attention layer."""
    hooked: list[Any] = []
    for name, module in cast(Any, unet).named_modules():
        if name.endswith(("attn1", "attn2")):
            def forward(
                hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *, name: str = name,
                module: Any = module, **_: Any,
            ) -> Tensor:
                return attention(name, module, hidden_states, encoder_hidden_states)

            module.forward = forward
            hooked.append(module)
    try:
        yield
    finally:
        for module in hooked:
            del module.forward


@contextmanager
def naive_layers(unet: UNet2DConditionModel, naive: Naive) -> Generator[Naive]:
    """Replace the forward of every attention layer by the loop."""
    with replaced_attention(unet, naive.attention):
        yield naive
