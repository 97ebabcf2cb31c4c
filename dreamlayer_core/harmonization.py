"""Information retained harmonization: layers fused in latent space while denoising goes on (Sec. 3.3, Eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention.shared import resize_map
from .errors import InputError

__all__ = ["fuse_latents", "resize_alpha"]


def fuse_latents(background: Tensor, foregrounds: Tensor, alphas: Tensor) -> Tensor:
    """ẑ = ẑ^1 · Π_{i≥2} (1 − α^i) + Σ_{i≥2} z^i · α^i · Π_{f>i} (1 − α^f), noisy latents of one timestep (Eq. 12).

    background (..., c, h, w): what the harmonization pass has made of it; foregrounds (..., fg, c, h, w), bottom to
    top: the latents kept from sampling; alphas (..., fg, 1, h, w) in [0, 1], see `resize_alpha` -> (..., c, h, w) in
    the background's dtype. Exactly the topmost latent where its alpha is 1, the background where all are 0.
    Raises InputError for a count or size of alphas or latents that does not fit.
    """
    _check_fusion(background, foregrounds, alphas)
    fused = background
    for latent, alpha in zip(foregrounds.unbind(-4), alphas.unbind(-4), strict=True):
        # Laying one over the other is the sum of Eq. 12 by Horner's rule.
        fused = torch.lerp(fused, latent.to(fused.dtype), alpha.to(fused.dtype))
    return fused


def resize_alpha(alphas: Tensor, size: tuple[int, int]) -> Tensor:
    """Alphas (..., 1, H, W) in [0, 1] at a latent's size (height, width) -> (..., 1, height, width) in [0, 1] (Eq. 12).

    A latent cell gets the mean alpha of about what it covers.
    """
    return resize_map(alphas, size)


def _check_fusion(background: Tensor, foregrounds: Tensor, alphas: Tensor) -> None:
    expected = (*foregrounds.shape[:-3], 1, *background.shape[-2:])
    if (*foregrounds.shape[:-4], *foregrounds.shape[-3:]) != tuple(background.shape):
        raise InputError(
            f"got foregrounds {tuple(foregrounds.shape)} for a background {tuple(background.shape)}; "
            "give (..., foregrounds, channels, height, width) for (..., channels, height, width)"
        )
    if tuple(alphas.shape) != expected:
        raise InputError(
            f"got alphas {tuple(alphas.shape)} for latents {tuple(foregrounds.shape)}; give one per foreground, "
            f"resized to the latent (resize_alpha): {expected}"
        )
