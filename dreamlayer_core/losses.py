"""What the adapter is trained on (Eq. 2, 6, 7, 8).

The paper's context and layout losses are sums over foregrounds of the 2-norm ‖x‖₂. We take the mean of x² over cells,
foregrounds and stacks instead: ‖x‖₂² = cells · mean(x²), so both are smallest at the same maps, but ours depends
neither on the map's resolution nor on the number of foregrounds, and its gradient fades as x does, where the norm's
keeps its length and is undefined at x = 0. Everything is computed in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from .attention.shared import resize_map
from .errors import InputError

__all__ = ["LossWeights", "context_loss", "layout_loss", "noise_loss", "total_loss"]


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The λ of Eq. 8."""

    noise: float = 1.0  # App. B
    context: float = 1.0  # App. B
    layout: float = 1.0  # App. B


def noise_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between predicted and true noise, two tensors of one shape -> scalar (Eq. 2)."""
    return _mean_square(prediction, target)


def context_loss(maps: Tensor, alphas: Tensor) -> Tensor:
    """L_c: the context maps of the global row should be the foregrounds' alphas, resized to the maps (Eq. 6).

    maps (stacks, fg, h, w) in [0, 1], alphas (stacks, fg, 1, H, W) in [0, 1] -> scalar: the squared norm of Eq. 6
    averaged over cells and foregrounds (why: see above).
    """
    return _mean_square(maps, resize_map(rearrange(alphas, "stack fg 1 h w -> stack fg h w"), _size(maps)))


def layout_loss(global_maps: Tensor, foreground_maps: Tensor) -> Tensor:
    """L_layout: each foreground's own map should agree with its map in the global row (Eq. 7).

    Two tensors of one shape, (stacks, fg, ...), in [0, 1] -> scalar, averaged as in `context_loss`. The global side
    teaches: no gradient goes to it.
    """
    return _mean_square(foreground_maps, global_maps.detach())


def total_loss(noise: Tensor, context: Tensor, layout: Tensor, weights: LossWeights | None = None) -> Tensor:
    """L = λ_noise L_noise + λ_c L_c + λ_layout L_layout (Eq. 8)."""
    weights = weights or LossWeights()
    return weights.noise * noise + weights.context * context + weights.layout * layout


def _mean_square(value: Tensor, target: Tensor) -> Tensor:
    if value.shape != target.shape:  # else broadcasting would quietly compare the wrong things
        raise InputError(f"got {tuple(value.shape)} to compare with {tuple(target.shape)}; give tensors of one shape")
    return (value.float() - target.float()).square().mean()


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
