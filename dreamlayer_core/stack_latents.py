"""The layers of a stack as the model sees them: painted on gray, encoded, and noised to the steps of a run (Eq. 2).

Layers that nobody has sampled (a PSD, a scene) have no trajectory; `stack_trajectory` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .composite import flatten, gray_fill
from .errors import InputError
from .layers import Layer, LayerStack
from .sampling import FINAL, Trajectory, initial_noise

__all__ = ["LatentCoder", "Noising", "check_fit", "layer_rgba", "noised_trajectory", "pad_alphas", "row_picture", "stack_alphas", "stack_pictures",
           "stack_trajectory"]


class Noising(Protocol):
    """What a noise schedule does here; `NoiseSchedule` is one."""

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int, /) -> Tensor:
        """z_t of latents and unit noise."""
        ...


class LatentCoder(Protocol):
    """What latents of pictures need of a model; `DreamLayer` is one."""

    @property
    def schedule(self) -> Noising: ...

    @property
    def vae_scale(self) -> int:
        """Pixels of the picture per latent cell."""
        ...

    @property
    def latent_channels(self) -> int: ...

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the latent of a picture."""
        ...

    def encode_pictures(self, pictures: Tensor, foregrounds: Mapping[int, Tensor] | None = None) -> Tensor:
        """Pictures (n, 3, H, W) in [0, 1] -> latents (n, c, h, w) as the model samples them.

        ``foregrounds`` has the straight RGBA (4, H, W) of those that show a foreground, by index: for a transparent encoder.
        """
        ...


def row_picture(layer: Layer, size: tuple[int, int], *, background: bool) -> Tensor:
    """What the row of a layer shows on a canvas of ``size`` (width, height): (3, height, width) in [0, 1].

    A foreground stands on gray (Eq. 2), whatever its opacity; a background is taken as it is, gray where it has holes.
    """
    placed = layer.on_canvas(*size)
    if background and bool((placed.alpha == 1).all()):
        return placed.color
    return gray_fill(placed.color, placed.alpha)


def layer_rgba(layer: Layer, size: tuple[int, int]) -> Tensor:
    """Straight colour and alpha of a layer on a canvas of ``size`` (width, height), before opacity: (4, height, width)."""
    placed = layer.on_canvas(*size)
    return torch.cat([placed.color, placed.alpha])


def stack_pictures(stack: LayerStack) -> Tensor:
    """(k + 1, 3, height, width): what the rows of a stack show; the last is its composite (Eq. 1)."""
    size = (stack.width, stack.height)
    rows = [row_picture(layer, size, background=index == 0) for index, layer in enumerate(stack.layers)]
    return torch.stack([*rows, flatten(stack)])


def stack_alphas(stack: LayerStack) -> Tensor:
    """Alphas of the foregrounds on the canvas, (k - 1, 1, height, width), before opacity."""
    alphas = [layer.on_canvas(stack.width, stack.height).alpha for layer in stack.foregrounds]
    return torch.stack(alphas) if alphas else torch.zeros(0, 1, stack.height, stack.width)


def pad_alphas(alphas: Tensor, latents: Tensor, scale: int) -> Tensor:
    """Alphas (..., H, W) as large as latents (..., h, w) of ``scale`` pixels a cell: nothing lies beyond the canvas."""
    rows, columns = (side * scale for side in latents.shape[-2:])
    height, width = alphas.shape[-2:]
    return functional.pad(alphas, (0, columns - width, 0, rows - height))


def noised_trajectory(schedule: Noising, clean: Tensor, noise: Tensor, timesteps: Sequence[int]) -> Trajectory:
    """z_t of known latents at each timestep, ``clean`` itself at ``FINAL``; clean and noise (stacks, rows, c, h, w).

    The noise of a row is the same at every timestep, as on the path of a deterministic sampler.
    """
    noise = noise.to(clean)
    return Trajectory({t: clean if t == FINAL else schedule.add_noise(clean, noise, t) for t in timesteps})


@torch.no_grad()
def stack_trajectory(model: LatentCoder, stack: LayerStack, timesteps: Sequence[int], *, seed: int = 0) -> Trajectory:
    """The trajectory of layers that were not sampled: each encoded as `stack_pictures` shows it, noised to ``timesteps``.

    One stack: latents (1, k + 1, c, h, w). Each row has noise of its own by ``seed`` (`initial_noise`). Add ``FINAL``
    to the timesteps for a whole trajectory. Raises InputError for a canvas that the model cannot take.
    """
    size = (stack.width, stack.height)
    foregrounds = {row: layer_rgba(layer, size) for row, layer in enumerate(stack.layers) if row > 0}
    clean = model.encode_pictures(stack_pictures(stack), foregrounds)
    rows, channels, height, width = clean.shape
    noise = initial_noise((rows, channels, height, width), seed)
    return noised_trajectory(model.schedule, clean[None], noise, timesteps)


def check_fit(model: LatentCoder, trajectory: Trajectory, stack: LayerStack) -> None:
    """Does a trajectory have a row for every layer of the stack, of the stack's size? Raises InputError if not."""
    if not trajectory.latents:
        raise InputError("got a trajectory without latents; keep them while sampling, or make one with stack_trajectory")
    found = tuple(next(iter(trajectory.latents.values())).shape)
    wanted = (1, len(stack.layers) + 1, model.latent_channels, *model.grid(stack.width, stack.height))
    if found != wanted:
        raise InputError(
            f"got a trajectory of {found} for a stack of {len(stack.layers)} layers at {stack.width}x{stack.height}, "
            f"expected {wanted}; it is of another stack or model: make one from the pixels (stack_trajectory)")
