"""Progress, and a live preview of all rows as a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.utils
import latent_preview
import torch
from torch import Tensor

__all__ = ["row_grid", "step_callback"]


def row_grid(latents: Tensor) -> Tensor:
    """(n, c, h, w) -> one latent (1, c, H, W) with all of them side by side, as square as it gets."""
    columns = math.ceil(math.sqrt(len(latents)))
    lines = math.ceil(len(latents) / columns)
    filled = torch.cat([latents, latents.new_zeros(lines * columns - len(latents), *latents.shape[1:])])
    return torch.cat([torch.cat(list(line), -1) for line in filled.split(columns)], -2)[None]


def step_callback(model: comfy.model_patcher.ModelPatcher, steps: int) -> Callable[[int, Tensor, Tensor, int], None]:
    """For ComfyUI's samplers: called once a step. The sampler itself stops where the user interrupts."""
    previewer: Any = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    bar = comfy.utils.ProgressBar(steps)

    def report(step: int, clean: Tensor, latents: Tensor, total: int) -> None:
        picture = previewer.decode_latent_to_preview_image("JPEG", row_grid(clean)) if previewer else None
        bar.update_absolute(step + 1, total, picture)

    return report
