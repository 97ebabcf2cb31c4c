"""Frozen settings; every default names its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InputError

__all__ = ["LARGEST_SIDE", "SMALLEST_SIDE", "HarmonizationConfig", "InversionConfig", "InversionMethod", "LayerAttentionConfig",
           "SamplingConfig"]

SMALLEST_SIDE = 16  # pixels
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


InversionMethod = Literal["ddim", "fixed-point", "exact", "replay"]


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """How a picture's latent is taken back to noise (App. E).

    ``masked`` hides the other rows from the global one (Eq. 14-16), ``mask_queries`` says from which queries.
    ``iterations`` and ``tolerance`` are of the fixed point (relative change of the worst row), ``gamma`` of BDIA.
    """

    method: InversionMethod = "replay"
    guidance: float = 1.0  # Mokady et al. 2022: inverting under more adds its error up
    masked: bool = True
    mask_queries: Literal["all", "global"] = "all"  # as Eq. 15 is written
    iterations: int = 30
    tolerance: float = 1e-6
    gamma: float = 1.0  # undone to the last bit; less damps what two-step methods swing, and rounds

    def __post_init__(self) -> None:
        if self.method not in get_args(InversionMethod):
            raise InputError(f"got an inversion by {self.method!r}; give one of {', '.join(get_args(InversionMethod))}")
        if not 0 <= self.guidance <= 100:
            raise InputError(f"got a guidance of {self.guidance} for the inversion; give 0 to 100 (1 is none)")
        if self.mask_queries not in ("all", "global"):
            raise InputError(f"got a mask for {self.mask_queries!r} queries; give 'all' or 'global'")
        if not 1 <= self.iterations <= 1000:
            raise InputError(f"got {self.iterations} iterations of the fixed point; give 1 to 1000")
        if not 0 <= self.tolerance < 1:
            raise InputError(f"got a tolerance of {self.tolerance}; give 0 to less than 1")
        if not 0.5 <= self.gamma <= 1:
            raise InputError(f"got a gamma of {self.gamma}; give 0.5 to 1")
