"""Frozen settings; every default names its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from .errors import InputError

__all__ = ["FAST", "LARGEST_SIDE", "SMALLEST_SIDE", "LCM_STEPS", "CrossKeys", "GuidanceInterval", "HarmonizationConfig",
           "InversionConfig", "InversionMethod", "LayerAttentionConfig", "MapRefinement", "Preset", "SamplingConfig",
           "SchedulerName", "TRAINING_FREE", "TilingConfig", "check_size"]

SMALLEST_SIDE = 16  # pixels
LARGEST_SIDE = 4096  # pixels; joint attention over more than this is a mistake rather than a wish


def check_size(width: int, height: int) -> None:
    """Raises InputError for a picture that is too small or too large to be sampled."""
    if min(width, height) < SMALLEST_SIDE or max(width, height) > LARGEST_SIDE:
        raise InputError(f"got a size of {width}x{height}; give sides of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")


TokenWeighting = Literal["sum", "spread"]


@dataclass(frozen=True, kw_only=True)
class MapRefinement:
    """What is done to the map of Eq. 4 before anything uses it. As it comes: nothing.

    ``smoothing`` is the sigma of a Gaussian in cells; claims under ``floor`` become 0; ``sharpening`` is an exponent.
    ``token_weighting`` "spread" weighs a prompt's tokens by how much their maps vary, "sum" none (Eq. 4).
    ``self_attention``: how often the map is spread along the self-attention of its own stage.
    """

    token_weighting: TokenWeighting = "sum"
    self_attention: int = 0
    smoothing: float = 0.0
    floor: float = 0.0
    sharpening: float = 1.0

    def __post_init__(self) -> None:
        if self.token_weighting not in get_args(TokenWeighting):
            raise InputError(f"got token weighting {self.token_weighting!r}; give one of {', '.join(get_args(TokenWeighting))}")
        if not 0 <= self.self_attention <= 8:
            raise InputError(f"got {self.self_attention} passes of self-attention over the context map; give 0 (off) to 8")
        if not 0 <= self.smoothing <= 64:
            raise InputError(f"got a smoothing of {self.smoothing} cells; give 0 (off) to 64")
        if not 0 <= self.floor < 1:
            raise InputError(f"got a floor of {self.floor} for the context map; give 0 (off) to less than 1")
        if not 0.1 <= self.sharpening <= 10:
            raise InputError(f"got a sharpening of {self.sharpening} for the context map; give 0.1 to 10 (1 is none)")


TRAINING_FREE = MapRefinement(smoothing=1.0, floor=0.4)
"""Of what `dreamlayer evaluate maps` tried for maps without an adapter one of the best (docs/results/maps.md)."""

CrossKeys = Literal["exact", "pooled", "region"]


@dataclass(frozen=True, kw_only=True)
class LayerAttentionConfig:
    """Which parts of the method act on the UNet.

    ``context_threshold`` and ``downscale`` come from the adapter where they are None; the threshold is a timestep of the
    paper's schedule, and stands for its noise level. ``cross_keys`` are the other rows' keys that a row sees: "exact"
    all, "pooled" averaged over 2x2 cells, "region" of a foreground those where its context map reaches
    ``region_threshold``. ``attention_memory`` bounds the scores of an attention that writes them out, by chunks of
    queries; PyTorch's fused ones do not, and need no bound. An adapter's attention between the rows of a cell is small,
    and neither approximated nor bounded.
    """

    caca: bool = True  # Eq. 3-5 and, through its map, Eq. 9
    lssa: bool = True  # Eq. 10-11
    cells: bool = True  # with LSSA, what the adapter has of attention between the rows of a cell, which the paper has not
    context_threshold: int | None = None  # T_G; the paper's 850 without an adapter
    downscale: int | None = None  # of the latent; without an adapter what gives the paper's 16x16 cells
    refinement: MapRefinement | None = None  # of the map of Eq. 4; None: TRAINING_FREE where N = 0, else none
    cross_keys: CrossKeys = "exact"  # Eq. 10; the others approximate it
    region_threshold: float = 0.1  # of a context map, for cross_keys "region"
    attention_memory: int | None = None  # MiB

    def __post_init__(self) -> None:
        if self.context_threshold is not None and not 0 <= self.context_threshold <= 1000:
            raise InputError(f"got T_G {self.context_threshold}; give 0 to 1000, or None for the adapter's")
        if self.downscale is not None and self.downscale < 1:
            raise InputError(f"got a CACA downscale of {self.downscale}; give 1 or more, or None for the adapter's")
        if self.cross_keys not in get_args(CrossKeys):
            raise InputError(f"got cross-layer keys {self.cross_keys!r}; give one of {', '.join(get_args(CrossKeys))}")
        if self.cross_keys == "region" and self.lssa and not self.caca:
            raise InputError("got cross-layer keys by region with CACA off, which finds the regions; give exact or pooled")
        if not 0 <= self.region_threshold <= 1:
            raise InputError(f"got a region threshold of {self.region_threshold}; give 0 (everything) to 1")
        if self.attention_memory is not None and self.attention_memory < 1:
            raise InputError(f"got {self.attention_memory} MiB for attention scores; give 1 or more, or None (no bound)")

    @property
    def attention_bytes(self) -> int | None:
        return None if self.attention_memory is None else self.attention_memory * 2**20

    @property
    def active(self) -> bool:
        """Whether anything at all differs from the stock UNet (an adapter apart)."""
        return self.caca or self.lssa


@dataclass(frozen=True, kw_only=True)
class HarmonizationConfig:
    """IRH: latents are fused while ``low <= t <= high`` (Eq. 12), t being the paper's timestep of their noise level."""

    high: int = 600  # T_H, Table 4
    low: int = 400  # T'_H, Table 4

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1000:
            raise InputError(f"got T_H {self.high} and T'_H {self.low}; give 0 <= T'_H <= T_H <= 1000")

    def fuses(self, timestep: int) -> bool:
        """Whether layers are fused at this noise level, given as the paper's timestep (`schedule.paper_timestep`)."""
        return self.low <= timestep <= self.high


SchedulerName = Literal["ddim", "ddim-trailing", "euler", "euler-ancestral", "dpm++", "lcm"]
LCM_STEPS = 50  # Luo et al. 2023: steps of the method that is distilled
# Steps and guidance of the schedulers that have others than the paper.
_USUAL: Mapping[SchedulerName, tuple[int, float]] = {
    "lcm": (4, 1.0),  # Luo et al. 2023: guidance is distilled too
    "dpm++": (20, 5.0),  # Lu et al. 2022
}


GuidanceInterval = tuple[int, int]
"""Lowest and highest noise level at which guidance acts, as the paper's timesteps (`schedule.paper_timestep`)."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to denoise. ``scheduler`` is DDIM as the paper has it, or one for which see `schedulers.stepper_for`.

    Outside ``guidance_interval`` the conditional half alone is computed (Kynkäänniemi et al. 2024); None: it is guided
    everywhere. ``layer_guidance`` has the guidance of single rows (0 = background, the last the whole picture).
    """

    steps: int = 50  # App. B
    guidance: float = 5.0
    joint_guidance: bool = True  # conditional and unconditional rows in one call of the UNet
    scheduler: SchedulerName = "ddim"  # App. B
    guidance_interval: GuidanceInterval | None = None
    layer_guidance: Mapping[int, float] = field(default_factory=lambda: dict[int, float]())

    @classmethod
    def usual(cls, scheduler: SchedulerName, steps: int | None = None, guidance: float | None = None) -> SamplingConfig:
        """A scheduler with the steps and guidance that are usual for it where they are None."""
        usual_steps, usual_guidance = _USUAL.get(scheduler, (cls.steps, cls.guidance))
        return cls(scheduler=scheduler, steps=usual_steps if steps is None else steps,
                   guidance=usual_guidance if guidance is None else guidance)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise InputError(f"got {self.steps} steps; give 1 to 1000")
        if not 0 <= self.guidance <= 100:
            raise InputError(f"got a guidance of {self.guidance}; give 0 to 100 (1 is none)")
        for row, scale in self.layer_guidance.items():
            if row < 0 or not 0 <= scale <= 100:
                raise InputError(f"got a guidance of {scale} for layer {row}; give 0 to 100 (1 is none), and layers from 0 up")
        low, high = self.guidance_interval or (0, 1000)
        if not 0 <= low <= high <= 1000:
            raise InputError(f"got guidance from timestep {low} to {high}; give 0 <= low <= high <= 1000")
        if self.scheduler not in get_args(SchedulerName):
            raise InputError(f"got the scheduler {self.scheduler!r}; give one of {', '.join(get_args(SchedulerName))}")
        if self.scheduler == "lcm" and self.steps > LCM_STEPS:
            raise InputError(f"got {self.steps} steps of lcm; give 1 to {LCM_STEPS}, those that such weights are distilled from")

    def guides(self, timestep: int) -> bool:
        """Whether guidance acts at this noise level, given as the paper's timestep (`schedule.paper_timestep`)."""
        low, high = self.guidance_interval or (0, 1000)
        return low <= timestep <= high

    def row_guidance(self, rows: int) -> list[float]:
        """The guidance of every row of a picture of so many. Raises InputError for rows that it lacks."""
        if unknown := [row for row in self.layer_guidance if row >= rows]:
            raise InputError(f"got a guidance for layer {unknown[0]}; the rows of this picture are 0 to {rows - 1}")
        return [self.layer_guidance.get(row, self.guidance) for row in range(rows)]

    def of_rows(self, rows: Sequence[int]) -> SamplingConfig:
        """The same for a run of these rows of the picture alone; a row of -1 is a new one."""
        kept = {place: self.layer_guidance[row] for place, row in enumerate(rows) if row in self.layer_guidance}
        return replace(self, layer_guidance=kept)


EMBEDDED_SAMPLING = SamplingConfig(guidance=2.5, layer_guidance={0: 5.0})
"""What suits the embedded model with its own adapter. With less guidance layers agree more with the whole picture, and a background
that is guided more than they keeps what is theirs out (docs/results)."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that go together: which keys of the other rows are seen, and where guidance acts."""

    cross_keys: CrossKeys
    guidance_interval: GuidanceInterval | None


FAST = Preset(cross_keys="pooled", guidance_interval=(600, 1000))
"""What each part saves and loses: docs/results/fast.md."""


@dataclass(frozen=True, kw_only=True)
class TilingConfig:
    """Pictures of more than ``above`` x ``above`` pixels are decoded and encoded in tiles, of ``tile`` pixels a side.

    Tiles overlap by ``overlap`` pixels. Smaller pictures, and all with ``above`` None, are decoded whole.
    """

    above: int | None = 1280
    tile: int = 1024
    overlap: int = 128

    def __post_init__(self) -> None:
        if self.above is not None and self.above < 1:
            raise InputError(f"got tiles above {self.above} pixels; give 1 or more, or None (no tiles)")
        if not 0 < self.overlap < self.tile:
            raise InputError(f"got tiles of {self.tile} pixels that overlap by {self.overlap}; give 0 < overlap < tile")

    def splits(self, size: tuple[int, int]) -> bool:
        """Whether a picture of this (height, width) is decoded in tiles."""
        return self.above is not None and size[0] * size[1] > self.above**2


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


FitColors = Literal["all", "foregrounds", "none"]


@dataclass(frozen=True, kw_only=True)
class PictureFit:
    """How layers that were found in a picture are held to it.

    ``confine`` cuts a foreground's alpha to where its context map has it. ``colors``: "all" layers take what is seen of them
    from the picture, shadows on the background with it; "foregrounds" leaves the background as it was sampled; "none".
    """

    confine: bool = True
    colors: FitColors = "all"

    def __post_init__(self) -> None:
        if self.colors not in get_args(FitColors):
            raise InputError(f"got colors {self.colors!r} of a fit; give {', '.join(get_args(FitColors))}")
