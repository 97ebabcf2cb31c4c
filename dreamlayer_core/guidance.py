"""Classifier-free guidance around a UNet that the method is bound to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from .config import SamplingConfig
from .layer_run import Half, LayerRun
from .prompts import LayeredEmbedding, LayerPrompts
from .text_encoders import TextRows
from .unet_calls import calling_for

if TYPE_CHECKING:
    from .controls import LayerControl
    from .pipeline import DreamLayer

__all__ = ["Guided", "guidance_embedding"]


def guidance_embedding(scales: Tensor, width: int) -> Tensor:
    """Scales (n,) as a UNet is told them that has guidance distilled into it: sinusoids of w = scale - 1, (n, width).

    Meng et al. 2023, as Luo et al. 2023 use it; ``width`` is even.
    """
    frequencies = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2, device=scales.device))
    angles = 1000 * (scales - 1)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class Guided:
    """Classifier-free guidance around a bound UNet, in one batch or in two; remembers the newest context map.

    ``global_row``: of the whole picture's row alone; ``controls``: fitted hints of rows. A UNet that has guidance distilled
    into it is told the scales instead, in one half. Raises InputError for guidance of layers that are not there.
    """

    def __init__(
        self, model: DreamLayer, run: LayerRun, embeddings: Sequence[LayeredEmbedding], stacks: Sequence[LayerPrompts],
        sampling: SamplingConfig, *, global_row: bool = False, controls: Sequence[LayerControl] = (),
    ) -> None:
        self.paper_timestep = model.schedule.paper_timestep
        self.model, self.run, self.sampling, self.joint = model, run, sampling, sampling.joint_guidance
        rows = [e.rows[-1:] if global_row else e.rows for e in embeddings]
        self.positive = TextRows.joined(rows)
        self.negative = model.negative(stacks, len(rows[0].embeddings), embeddings[0].length)
        scales = sampling.row_guidance(len(embeddings[0].embeddings))
        self.scales = scales[-1:] if global_row else scales
        self.controls = controls
        self.context_map: Tensor | None = None

    def _call(self, latents: Tensor, timestep: int, text: TextRows, halves: tuple[Half, ...]) -> Tensor:
        self.run.begin(self.paper_timestep(timestep), (latents.shape[-2], latents.shape[-1]), halves)
        with calling_for(halves):
            return self.model.predict(
                latents, timestep, text, controls=self.controls, rows=self.run.rows, guidance=self.scales)

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        flat = rearrange(latents, "stack row c h w -> (stack row) c h w")
        guides = not self.model.has_distilled_guidance and set(self.scales) != {1}
        if not guides or not self.sampling.guides(self.paper_timestep(timestep)):
            output = self._call(flat, timestep, self.positive, ("conditional",))
        else:
            positive, negative = self._halves(flat, timestep)
            output = negative + self._scale(positive) * (positive - negative)
        if self.run.context_map is not None:
            self.context_map = self.run.context_map
        return output.to(latents.dtype).reshape(latents.shape)

    def _scale(self, like: Tensor) -> Tensor | float:
        """Of each of the ((stack row)) outputs; one number where all rows share it."""
        if len(set(self.scales)) == 1:
            return self.scales[0]
        return like.new_tensor(self.scales).repeat(len(like) // len(self.scales))[:, None, None, None]

    def _halves(self, flat: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        if not self.joint:
            # The conditional rows first: their context map serves both halves.
            positive = self._call(flat, timestep, self.positive, ("conditional",))
            return positive, self._call(flat, timestep, self.negative, ("unconditional",))
        text = TextRows.joined([self.negative, self.positive])
        both = self._call(torch.cat([flat, flat]), timestep, text, ("unconditional", "conditional"))
        negative, positive = both.chunk(2)
        return positive, negative
