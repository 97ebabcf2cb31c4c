"""The noise schedule of latent diffusion, and DDIM on it (Song et al. 2020, as the paper samples; App. B)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .errors import InputError

__all__ = ["NoiseSchedule", "PredictionType"]

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Stable Diffusion's schedule: the square roots of the betas are linear.

    Timesteps count down from ``train_steps - 1`` to 0; timestep -1 stands for "after the last step".
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    prediction_type: PredictionType = "epsilon"

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """Product of (1 - beta) up to each timestep, (train_steps,) fp32: the share of signal in z_t, squared."""
        betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps) ** 2
        return torch.cumprod(1 - betas, 0)

    def timesteps(self, steps: int) -> list[int]:
        """Descending timesteps, evenly spaced, offset by one as in Stable Diffusion. InputError unless 1..train_steps.

        As diffusers' ``leading`` spacing, but that all of the train steps are without the offset: it has no room.
        """
        if not 1 <= steps <= self.train_steps:
            raise InputError(f"got {steps} steps; give 1 to {self.train_steps}")
        stride = self.train_steps // steps
        offset = min(1, self.train_steps - 1 - (steps - 1) * stride)
        return [index * stride + offset for index in reversed(range(steps))]

    def _signal(self, timestep: int | Tensor, like: Tensor) -> Tensor:
        """alphas_cumprod at timesteps, shaped to broadcast over ``like``; below 0 the schedule's own first value."""
        index = torch.as_tensor(timestep).clamp(min=0).cpu()
        values = self.alphas_cumprod[index].to(like.device)
        return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """z_t = sqrt(a) z_0 + sqrt(1 - a) ε; ``timestep`` is one number or a tensor over the leading axes."""
        signal = self._signal(timestep, clean)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """What the model should put out: ε (Eq. 2), or the velocity sqrt(a) ε - sqrt(1 - a) z_0."""
        if self.prediction_type == "epsilon":
            return noise
        signal = self._signal(timestep, clean)
        return signal.sqrt() * noise - (1 - signal).sqrt() * clean

    def clean_and_noise(self, output: Tensor, latents: Tensor, timestep: int | Tensor) -> tuple[Tensor, Tensor]:
        """The model's z_0 and ε at z_t."""
        signal = self._signal(timestep, latents)
        if self.prediction_type == "v_prediction":
            return (signal.sqrt() * latents - (1 - signal).sqrt() * output,
                    signal.sqrt() * output + (1 - signal).sqrt() * latents)
        return (latents - (1 - signal).sqrt() * output) / signal.sqrt(), output

    def ddim_step(self, output: Tensor, latents: Tensor, timestep: int, previous: int) -> Tensor:
        """One deterministic DDIM step from ``timestep`` to ``previous`` (Song et al. 2020, Eq. 12, σ = 0)."""
        clean, noise = self.clean_and_noise(output, latents, timestep)
        signal = self._signal(previous, latents)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise
