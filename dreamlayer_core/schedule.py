"""The noise schedule of latent diffusion, and DDIM on it (Song et al. 2020, as the paper samples; App. B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .errors import InputError

__all__ = ["LAST_TIMESTEP", "GivenSchedule", "NoiseSchedule", "PredictionType", "Spacing", "around", "exploded_signal",
           "first_own_step", "paper_timestep"]

PredictionType = Literal["epsilon", "v_prediction"]
Spacing = Literal["leading", "trailing"]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Stable Diffusion's schedule: the square roots of the betas are linear.

    Timesteps count down from ``train_steps - 1`` to 0; timestep -1 stands for "after the last step".
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    prediction_type: PredictionType = "epsilon"
    zero_snr: bool = False  # rescaled so that the last timestep is noise alone (Lin et al. 2023, Alg. 1)

    def __post_init__(self) -> None:
        if self.zero_snr and self.prediction_type == "epsilon":
            raise InputError("got a schedule that ends in noise alone for a model that predicts noise; give v_prediction")

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """Product of (1 - beta) up to each timestep, (train_steps,) fp32: the share of signal in z_t, squared."""
        betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps) ** 2
        signal = torch.cumprod(1 - betas, 0)
        if not self.zero_snr:
            return signal
        root = signal.sqrt()
        return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2

    def timesteps(self, steps: int, spacing: Spacing = "leading") -> list[int]:
        """Descending timesteps, evenly spaced. InputError unless 1..train_steps.

        "leading" is offset by one as in Stable Diffusion; as diffusers', but that all of the train steps are without
        the offset: it has no room. "trailing" starts at the last one, which few steps need (Lin et al. 2023, Tab. 2).
        """
        if not 1 <= steps <= self.train_steps:
            raise InputError(f"got {steps} steps; give 1 to {self.train_steps}")
        if spacing == "trailing":
            return [round(self.train_steps - index * self.train_steps / steps) - 1 for index in range(steps)]
        stride = self.train_steps // steps
        offset = min(1, self.train_steps - 1 - (steps - 1) * stride)
        return [index * stride + offset for index in reversed(range(steps))]

    def paper_timestep(self, timestep: int) -> int:
        """The timestep of the paper's schedule that is as noisy as this one's ``timestep``; its own ones for that schedule."""
        return paper_timestep(float(self.alphas_cumprod[max(timestep, 0)]))

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

    def output(self, clean: Tensor, latents: Tensor, timestep: int | Tensor) -> Tensor:
        """What a model puts out that takes z_t for ``clean`` with noise: the inverse of ``clean_and_noise``."""
        signal = self._signal(timestep, latents)
        if self.prediction_type == "v_prediction":
            return (signal.sqrt() * latents - clean) / (1 - signal).sqrt()
        return (latents - signal.sqrt() * clean) / (1 - signal).sqrt()

    def ddim_step(self, output: Tensor, latents: Tensor, timestep: int, previous: int) -> Tensor:
        """One deterministic DDIM step from ``timestep`` to ``previous`` (Song et al. 2020, Eq. 12, σ = 0)."""
        clean, noise = self.clean_and_noise(output, latents, timestep)
        signal = self._signal(previous, latents)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenSchedule(NoiseSchedule):
    """The noise levels of a model that says them itself: ``sigmas`` (train_steps,), ascending, of z_0 + σ ε."""

    sigmas: Tensor

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        return 1 / (1 + self.sigmas.float() ** 2)

    def exploding(self, latents: Tensor, timestep: int) -> Tensor:
        """z_t, whose variance is kept, as z_0 + σ ε, whose variance grows with σ."""
        return latents / self._signal(timestep, latents).sqrt()


def paper_timestep(signal: float) -> int:
    """The timestep, 0 to 999, of the schedule that the paper samples on whose noise level is nearest, in log-SNR.

    T_G, T_H and T'_H are timesteps of Stable Diffusion's schedule. What they stand for is a noise level, so another
    schedule, sampler or convention of timesteps is compared with them by its own: ``signal`` is the share of z_0 in z_t,
    squared (alphas_cumprod); of z_0 + σ ε it is ``exploded_signal``. Timesteps of that schedule are found again exactly.
    """
    return int((_PAPER - torch.tensor(signal, dtype=torch.float64).logit(eps=1e-12)).abs().argmin())


def exploded_signal(sigma: float) -> float:
    """The share of z_0, squared, in z_0 + σ ε scaled to the variance that it would have in z_t."""
    return 1 / (1 + sigma**2)


def first_own_step(steps: int, strength: float) -> int:
    """The first of so many steps that a row of this denoise strength takes by itself: the last share of them are its own.

    0 for a strength of 1: all; ``steps`` for 0: none. Raises InputError for strengths outside 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"got a denoise strength of {strength}; give 0 (as it is) to 1 (all anew)")
    return steps - round(steps * strength)


def around(levels: Sequence[float], sigma: float) -> tuple[int, int, float]:
    """Which of descending noise levels stand below and above ``sigma``, and its place between them: 0 below, 1 above.

    Beyond all of them both are the nearest one. z_t = z_0 + σ ε with one ε moves straight: at ``sigma`` it stands at that
    share between the two.
    """
    below = next((index for index, level in enumerate(levels) if level < sigma), len(levels) - 1)
    above = max(below - 1, 0) if levels[below] < sigma else below
    low, high = levels[below], levels[above]
    return below, above, (sigma - low) / (high - low) if high > low else 0.0


_PAPER = NoiseSchedule().alphas_cumprod.double().logit()
LAST_TIMESTEP = len(_PAPER) - 1  # of the paper; a threshold beyond it is never reached
