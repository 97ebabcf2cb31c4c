"""Frozen settings; every default names its source."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError

__all__ = ["LARGEST_SIDE", "HarmonizationConfig", "LayerAttentionConfig", "SamplingConfig"]

LARGEST_SIDE = 4096  # pixels; joint attention over more than this is a mistake rather than a wish


@dataclass(frozen=True, kw_only=True)
class LayerAttentionConfig:
    """Which parts of the method act on the UNet.

    ``context_threshold`` and ``downscale`` come from the adapter where they are None.
    """

    caca: bool = True  # Eq. 3-5 and, through its map, Eq. 9
    lssa: bool = True  # Eq. 10-11
    context_threshold: int | None = None  # T_G; the paper's 850 without an adapter
    downscale: int | None = None  # of the latent; the paper's 4 without an adapter
    smoothing: float = 0.0  # of the map of Eq. 4, in cells; for the training-free form (N = 0)

    def __post_init__(self) -> None:
        if self.context_threshold is not None and not 0 <= self.context_threshold <= 1000:
            raise InputError(f"got T_G {self.context_threshold}; give 0 to 1000, or None for the adapter's")
        if self.downscale is not None and self.downscale < 1:
            raise InputError(f"got a CACA downscale of {self.downscale}; give 1 or more, or None for the adapter's")
        if not 0 <= self.smoothing <= 64:
            raise InputError(f"got a smoothing of {self.smoothing} cells; give 0 (off) to 64")

    @property
    def active(self) -> bool:
        """Whether anything at all differs from the stock UNet (an adapter apart)."""
        return self.caca or self.lssa


@dataclass(frozen=True, kw_only=True)
class HarmonizationConfig:
    """IRH: latents are fused while ``low <= t <= high`` (Eq. 12)."""

    high: int = 600  # T_H, Table 4
    low: int = 400  # T'_H, Table 4

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1000:
            raise InputError(f"got T_H {self.high} and T'_H {self.low}; give 0 <= T'_H <= T_H <= 1000")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to denoise."""

    steps: int = 50  # App. B
    guidance: float = 5.0
    joint_guidance: bool = True  # conditional and unconditional rows in one call of the UNet

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise InputError(f"got {self.steps} steps; give 1 to 1000")
        if not 0 <= self.guidance <= 100:
            raise InputError(f"got a guidance of {self.guidance}; give 0 to 100 (1 is none)")
