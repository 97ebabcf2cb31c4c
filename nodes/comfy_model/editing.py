"""Layers edited inside harmonisation (Eq. 13) with ComfyUI's models: latents of edited layers, and the run they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ...dreamlayer_core.config import HarmonizationConfig
from ...dreamlayer_core.editing import EditedStack, LayerChange, check_harmonizable, edit_layers, shown_rows
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layers import LayerStack
from ...dreamlayer_core.sampling import Trajectory
from ...dreamlayer_core.stack_latents import pad_alphas
from ..sockets import SampledTrajectory
from .encode import of_layers
from .harmonize import check_trajectory, harmonize

__all__ = ["edit_stacks", "harmonize_stacks"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Coder:
    """The core's ``LatentCoder`` for a MODEL and a VAE; its timesteps are the numbers of a trajectory's steps."""

    model: comfy.model_patcher.ModelPatcher
    vae: comfy.sd.VAE
    trajectory: SampledTrajectory

    @property
    def schedule(self) -> _Coder:
        return self

    @property
    def vae_scale(self) -> int:
        return self.vae.spacial_compression_decode()

    @property
    def latent_channels(self) -> int:
        return self.trajectory.latents[0].shape[1]

    def grid(self, width: int, height: int) -> tuple[int, int]:
        rows, columns = self.trajectory.latents[0].shape[-2:]
        return rows, columns

    def encode_pictures(self, pictures: Tensor, foregrounds: Mapping[int, Tensor] | None = None) -> Tensor:
        height, width = (side * self.vae_scale for side in self.grid(0, 0))
        padded = functional.pad(pictures, (0, width - pictures.shape[-1], 0, height - pictures.shape[-2]), mode="replicate")
        encoded = self.vae.encode(rearrange(padded, "n c h w -> n h w c"))
        return self.model.model.process_latent_in(encoded).float().cpu()

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int, /) -> Tensor:
        """z_0 + σ ε: samplers here let the variance grow."""
        return clean + self.trajectory.sigmas[timestep] * noise


def edit_stacks(
    model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE, trajectory: SampledTrajectory, stacks: Sequence[LayerStack],
    changes: Sequence[Sequence[LayerChange]], *, snap: bool = False, seed: int = 0,
) -> list[EditedStack]:
    """Edit the layers of every picture, and alike its part of the trajectory, whose timesteps are then numbers of steps.

    InputError for layers that are not the trajectory's, and for edits that cannot be.
    """
    check_trajectory(trajectory)
    _check_layers(trajectory, stacks)
    coder = _Coder(model=model, vae=vae, trajectory=trajectory)
    pictures = [rearrange(z, "(stack row) c h w -> stack row c h w", row=trajectory.rows) for z in trajectory.latents]
    return [
        edit_layers(
            coder, Trajectory({step: z[index][None] for step, z in enumerate(pictures)}), stack, edits,
            between_cells="snap" if snap else "encode", seed=seed + index)
        for index, (stack, edits) in enumerate(zip(stacks, changes, strict=True))]


def harmonize_stacks(
    model: comfy.model_patcher.ModelPatcher, trajectory: SampledTrajectory, edited: Sequence[EditedStack],
    order: Sequence[int], config: HarmonizationConfig, strength: float, scale: int, callback: Any = None,
) -> Tensor:
    """IRH of edited pictures (Eq. 12, 13) as LATENT values (stacks, c, h, w).

    ``trajectory`` is that of before the edit, ``order`` the layers' numbers there; ``scale``: pixels per latent cell.
    Layers that are hidden or empty take no part, and their prompts none where all pictures hide them. InputError for
    layers that cannot be fused, see `check_harmonizable`, and what `harmonize` raises.
    """
    shown = [shown_rows(one.stack) for one in edited]
    for one, group in zip(edited, shown, strict=True):
        check_harmonizable(one.stack, group)
    # Without foregrounds the background stands in for one that is transparent everywhere.
    rows = [*range(len(edited[0].stack.layers)), *([0] if len(edited[0].stack.layers) == 1 else []), -1]
    latents = tuple(
        torch.cat([one.trajectory.latents[step][0, rows] for one in edited]) for step in range(len(trajectory.latents)))
    seen = sorted({row for group in shown for row in group})
    run = replace(
        trajectory, latents=latents, between={}, final=None, rows=len(rows),
        positive=of_layers(trajectory.positive, [order[row] for row in seen]))
    alphas = torch.stack([_alphas(one, group) for one, group in zip(edited, shown, strict=True)])
    return harmonize(model, run, pad_alphas(alphas, latents[0], scale), config, strength, callback)


def _alphas(edited: EditedStack, shown: Sequence[int]) -> Tensor:
    """(fg, 1, height, width), 0 for what takes no part."""
    stack = edited.stack
    if not stack.foregrounds:
        return torch.zeros(1, 1, stack.height, stack.width)
    opacities = [layer.opacity if row in shown else 0.0 for row, layer in enumerate(stack.foregrounds, 1)]
    return edited.alphas * torch.tensor(opacities).reshape(-1, 1, 1, 1)


def _check_layers(trajectory: SampledTrajectory, stacks: Sequence[LayerStack]) -> None:
    about = trajectory.layers
    wanted = (len(trajectory.latents[0]) // trajectory.rows, trajectory.rows - 2, about.width, about.height)
    found = (len(stacks), len(stacks[0].foregrounds), stacks[0].width, stacks[0].height)
    if found != wanted:
        raise InputError(
            "got {} picture(s) with {} foregrounds at {}x{} for a trajectory of {} with {} at {}x{}; connect the layers of "
            "the same sampling, as they were before any edit".format(*found, *wanted))
