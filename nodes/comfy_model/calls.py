"""One call of the UNet: whose rows are in it, and how it is taken apart where they do not fit into memory together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import comfy.conds
import torch
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.prompts import LayeredEmbedding
from ..sockets import LAYERS_KEY

__all__ = ["Chunk", "Part", "UnetCall", "run_height"]

Area = tuple[int, ...] | None


def run_height(conds: Mapping[str, Any], noise: Tensor) -> int | None:
    """Rows of every stack in a run, k + 1; None without layers. InputError where conditionings and latents do not agree."""
    heights = {len(cond[LAYERS_KEY].embeddings) for name, group in conds.items() if name != "negative"
               for cond in group or () if LAYERS_KEY in cond}
    if not heights:
        return None
    if len(heights) != 1:
        raise InputError(f"got conditionings of {sorted(heights)} rows in one run; combine those of one plan")
    rows = heights.pop()
    if len(noise) % rows:
        raise InputError(
            f"got a latent of {len(noise)} rows for prompts of {rows} (background, {rows - 2} foregrounds and the "
            "whole); give Empty Layered Latent and Encode Layers the same plan")
    return rows


class Chunk(comfy.conds.CONDRegular):
    """Goes with a conditioning through ComfyUI's batching, and says which rows of a UNet call it has become.

    ``cond`` is the layered conditioning's embedding, None for any other; ``order`` its place in its list. ComfyUI
    copies a conditioning's uuid to the other side of the guidance where one has an area: this it does not.
    """

    def __init__(self, cond: LayeredEmbedding | None, order: int = 0, area: Area = None) -> None:
        super().__init__(cond)
        self.order, self.area = order, area

    def process_cond(self, batch_size: int, area: Sequence[int] | None = None, **kwargs: Any) -> Chunk:
        return Chunk(self.cond, self.order, None if area is None else tuple(int(side) for side in area))

    def can_concat(self, other: comfy.conds.CONDRegular) -> bool:
        return True

    def concat(self, others: Sequence[Any]) -> list[Any]:
        return [self, *others]

    def size(self) -> list[int]:
        return [1]


class Part(NamedTuple):
    """Some rows of a call, as a call of their own."""

    index: Tensor  # of these rows in the whole call
    call: UnetCall


@dataclass(frozen=True, kw_only=True)
class UnetCall:
    """The arguments of a call: x (chunk stack row, c, h, w), and everything else that has a value for each of its rows."""

    x: Tensor
    timesteps: Tensor
    context: Any
    y: Any
    control: Mapping[str, list[Any]] | None
    options: Mapping[str, Any]
    extra: Mapping[str, Any]
    chunks: tuple[Chunk, ...]
    rows: int
    first_stack: int = 0

    def check(self) -> None:
        """Raises InputError where another node took single rows out of the batch."""
        if len(self.x) % (len(self.chunks) * self.rows):
            raise InputError(
                f"got {len(self.x) // len(self.chunks)} latents for pictures of {self.rows} rows; another node cuts the "
                "batch into pieces (context windows do): remove it")

    @property
    def stacks(self) -> range:
        """Which pictures of the batch."""
        return range(self.first_stack, self.first_stack + len(self.x) // (len(self.chunks) * self.rows))

    @property
    def cells(self) -> int:
        """What the memory that it takes grows with."""
        return len(self.x) * self.x.shape[-2] * self.x.shape[-1]

    @property
    def own(self) -> Chunk | None:
        """The conditional chunk, whose context map serves the others."""
        conditional = [chunk for chunk in self.chunks if chunk.cond is not None]
        return min(conditional, key=lambda chunk: chunk.order, default=None)

    def groups(self) -> list[list[int]]:
        """Which chunks share a context map: a conditional one, and the unconditional ones of its area; that one first."""
        conditional = [index for index, chunk in enumerate(self.chunks) if chunk.cond is not None]
        groups = [[index] for index in sorted(conditional, key=lambda index: self.chunks[index].order)]
        for index, chunk in enumerate(self.chunks):
            if chunk.cond is None:
                home = next((group for group in groups if self.chunks[group[0]].area == chunk.area), None)
                groups.append([index]) if home is None else home.append(index)
        return groups

    @property
    def divisible(self) -> bool:
        """Whether it is more than one picture's rows of one side of the guidance, which stay together."""
        return len(self.x) > self.rows

    def smaller(self) -> list[Part]:
        """Sides of the guidance one after another, the conditional one first; of one side, halves of its pictures."""
        if len(self.chunks) > 1:
            first = self.groups()[0][0]
            rest = [index for index in range(len(self.chunks)) if index != first]
            return [self.part([first]), self.part(rest)]
        half = len(self.stacks) // 2
        return [self.part([0], slice(0, half)), self.part([0], slice(half, None))]

    def part(self, chunks: Sequence[int], stacks: slice = slice(0, None)) -> Part:
        """Chunks by index, in the order that they have here, with all rows of some pictures."""
        kept = sorted(chunks)
        rows = torch.arange(len(self.x)).view(len(self.chunks), -1, self.rows)
        index = rows[kept][:, stacks].flatten()
        taken = {name: self._pick(getattr(self, name), index) for name in ("x", "timesteps", "context", "y", "extra")}
        control = self.control and {place: [self._pick(one, index) for one in several]
                                    for place, several in self.control.items()}
        lists = {name: [self.options[name][chunk] for chunk in kept]
                 for name in ("cond_or_uncond", "uuids") if name in self.options}
        return Part(index, replace(
            self, **taken, control=control, options={**self.options, **lists},
            chunks=tuple(self.chunks[chunk] for chunk in kept), first_stack=self.first_stack + stacks.start))

    def _pick(self, value: Any, index: Tensor) -> Any:
        if isinstance(value, Tensor):
            return value[index] if value.ndim and len(value) == len(self.x) else value
        if isinstance(value, dict):
            return {name: self._pick(one, index) for name, one in value.items()}
        return value

    def run(self, executor: Any, replacements: Mapping[str, Any]) -> Tensor:
        """Call the UNet. It takes the lists of ``control`` apart, and writes into the options: both are copies."""
        control = self.control and {place: list(several) for place, several in self.control.items()}
        options = {**self.options, "patches_replace": replacements}
        return executor(self.x, self.timesteps, self.context, self.y, control, options, **self.extra)

    def joined(self, parts: Sequence[Part], outputs: Sequence[Tensor]) -> Tensor:
        """The output of the whole call from those of its parts."""
        whole = outputs[0].new_empty(len(self.x), *outputs[0].shape[1:])
        for part, output in zip(parts, outputs, strict=True):
            whole[part.index.to(whole.device)] = output
        return whole
