"""Denoising loops with an injected model: layers together, then the harmonisation pass (Eq. 12)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .config import HarmonizationConfig
from .errors import InputError
from .harmonization import fuse_latents
from .schedule import LAST_TIMESTEP, NoiseSchedule, Spacing, paper_timestep

__all__ = ["FINAL", "DdimStepper", "Denoise", "DiffusersStepper", "OnStep", "Replay", "Step", "Stepper", "Trajectory",
           "harmonize", "initial_noise", "sample_layers", "unreached"]

FINAL = -1
"""The timestep that stands for "after the last step": z_0 as sampled."""

Denoise = Callable[[Tensor, int], Tensor]
"""The guided model: latents (stacks, rows, c, h, w) at a timestep -> its output, of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What ``on_step`` is told, before the step is taken."""

    stage: str  # "layers" or "harmonize"
    index: int
    total: int
    timestep: int
    latents: Tensor


OnStep = Callable[[Step], None]
"""Called once a step; raise ``Cancelled`` in it to stop."""


@dataclass
class Trajectory:
    """Noisy latents (stacks, rows, c, h, w) kept while sampling, by timestep, of the variance that ``NoiseSchedule.add_noise``
    makes; a whole one has z_0 under ``FINAL``."""

    latents: dict[int, Tensor] = field(default_factory=lambda: dict[int, Tensor]())

    def between(self, config: HarmonizationConfig, schedule: NoiseSchedule | None = None) -> Trajectory:
        """What harmonisation takes of it, by noise level: T'_H <= t <= T_H. InputError if nothing was kept there.

        ``schedule`` is the one whose timesteps these are; Stable Diffusion's by default.
        """
        level = (schedule or NoiseSchedule()).paper_timestep
        kept = {t: z for t, z in self.latents.items() if t != FINAL and config.fuses(level(t))}
        if not kept:
            raise InputError(
                f"no latents were kept between T'_H {config.low} and T_H {config.high}; sample with more steps, or "
                "widen the range")
        return Trajectory(kept)


@dataclass(frozen=True, eq=False)
class Replay:
    """Rows that follow a stored run while the others are sampled and see them.

    ``rows`` are row numbers, ``latents`` their z_t (stacks, len(rows), c, h, w) at every timestep of the run and under
    ``FINAL``. ``known`` (stacks, len(rows), 1, h, w), boolean: where False, the row is sampled as the others; None:
    nowhere. A row with a timestep in ``starts`` follows the stored run down to it, and is sampled from there.
    Raises InputError for rows that are doubled or negative, starts of other rows, and shapes that do not fit each other.
    """

    rows: tuple[int, ...]
    latents: Mapping[int, Tensor]
    known: Tensor | None = None
    starts: Mapping[int, int] = field(default_factory=lambda: dict[int, int]())

    def __post_init__(self) -> None:
        if len(set(self.rows)) != len(self.rows) or min(self.rows, default=0) < 0:
            raise InputError(f"got rows {self.rows} to replay; name each row once, counted from 0")
        if unknown := self.starts.keys() - set(self.rows):
            raise InputError(f"got a start for row {min(unknown)}, and rows {self.rows} to replay; give starts of these")
        shapes = {tuple(z.shape) for z in self.latents.values()}
        if len(shapes) != 1 or len(shape := next(iter(shapes))) != 5 or shape[1] != len(self.rows):
            raise InputError(
                f"got latents of shapes {sorted(shapes)} to replay; give (stacks, {len(self.rows)}, c, h, w) at every "
                "timestep")
        known = None if self.known is None else tuple(self.known.shape)
        if known is not None and known != (*shape[:2], 1, *shape[3:]):
            raise InputError(f"got a mask {known} for latents {shape} to replay; give {(*shape[:2], 1, *shape[3:])}")

    @classmethod
    def of(cls, trajectory: Trajectory, rows: Sequence[int]) -> Replay:
        """These rows of a whole trajectory. InputError for a row that it does not have."""
        have = min((z.shape[1] for z in trajectory.latents.values()), default=0)
        if unknown := [row for row in rows if not 0 <= row < have]:
            raise InputError(f"got row {unknown[0]} to replay of a trajectory of {have} rows; give 0 to {have - 1}")
        return cls(rows=tuple(rows), latents={t: z[:, list(rows)] for t, z in trajectory.latents.items()})

    def check(self, noise: Tensor, timesteps: Sequence[int]) -> None:
        """Does it fit a run on ``noise`` (stacks, rows, c, h, w) over these timesteps? InputError if not."""
        if missing := [t for t in (*timesteps, FINAL) if t not in self.latents]:
            raise InputError(
                f"got no latents to replay at timestep {missing[0]} ({len(missing)} of {len(timesteps) + 1} are "
                "missing); take the sampler and the steps of the stored run, all of which must have been kept")
        stored = tuple(next(iter(self.latents.values())).shape)
        stacks, rows, *cells = noise.shape
        if stored != (stacks, len(self.rows), *cells) or max(self.rows, default=0) >= rows:
            raise InputError(
                f"got latents {stored} to replay as rows {self.rows} of a run of {tuple(noise.shape)}; give a stored "
                "run of the same size, and rows that exist")

    def onto(self, latents: Tensor, timestep: int) -> Tensor:
        """Latents (stacks, rows, c, h, w) of a run, with the replayed rows as they were stored at this timestep."""
        places = [place for place, row in enumerate(self.rows) if timestep >= self.starts.get(row, FINAL)]
        rows, stored = [self.rows[place] for place in places], self.latents[timestep][:, places].to(latents)
        replayed = latents.clone()
        replayed[:, rows] = stored if self.known is None else torch.where(
            self.known[:, places].to(latents.device), stored, latents[:, rows])
        return replayed


class Stepper(Protocol):
    """One sampling method on one list of descending timesteps."""

    @property
    def timesteps(self) -> Sequence[int]: ...
    def paper_timestep(self, timestep: int) -> int:
        """The paper's timestep of the noise level at ``timestep``: what T_G, T_H and T'_H are compared with."""
        ...
    def start(self, noise: Tensor) -> Tensor:
        """Initial latents of a run from unit noise; also forgets any state of an earlier run."""
        ...
    def model_input(self, latents: Tensor, timestep: int) -> Tensor: ...
    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor: ...


class DdimStepper:
    """DDIM without noise, on the schedule itself (App. B); with ``spacing`` "trailing" for few steps."""

    def __init__(self, schedule: NoiseSchedule, steps: int, spacing: Spacing = "leading") -> None:
        self.schedule, self.timesteps = schedule, schedule.timesteps(steps, spacing)
        self.paper_timestep = schedule.paper_timestep
        self._previous = dict(zip(self.timesteps, [*self.timesteps[1:], -1], strict=True))

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return latents

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        return self.schedule.ddim_step(output, latents, timestep, self._previous[timestep])


# What is asked of a diffusers scheduler, whose classes promise none of it.
_OF_A_SCHEDULE = ("alphas_cumprod", "init_noise_sigma", "scale_model_input", "order")


class DiffusersStepper:
    """Any diffusers scheduler of a diffusion schedule that calls the model once a step, and steps from its output alone.

    ``make`` builds a fresh one a run: many carry state.

    Give it the betas and the prediction type of the model. Latents have the variance of ``NoiseSchedule.add_noise``, also
    with schedulers that themselves go by z_0 + σ ε: what is stored fits what is noised anew. Noise that an ancestral
    scheduler adds is drawn from ``generator``, which goes on from run to run. Raises InputError for schedulers without
    a diffusion schedule (EDM, IPNDM, flow matching, consistency models), and for those that revisit a noise level (Heun, KDPM2,
    PNDM): the harmonisation pass enters in mid-run, which they do not allow.
    """

    def __init__(self, make: Callable[[], Any], steps: int, generator: torch.Generator | None = None) -> None:
        self._make, self._steps, self._generator = make, steps, generator
        self._begin()

    def _begin(self) -> None:
        scheduler = self._scheduler = self._make()
        if missing := [name for name in _OF_A_SCHEDULE if not hasattr(scheduler, name)]:
            raise InputError(
                f"{type(scheduler).__name__} has no {', '.join(missing)}, and so no diffusion schedule; use one that has, "
                "such as DDIM, Euler, DPM-Solver++ or UniPC")
        scheduler.set_timesteps(self._steps)
        native = list(scheduler.timesteps)
        self.timesteps: Sequence[int] = [round(float(t)) for t in native]
        # Steps close together (Karras) can round to one timestep. The first stands for it: a scheduler looks up where
        # a run starts, and counts from there.
        self._native = dict(zip(reversed(self.timesteps), reversed(native), strict=True))
        # Schedulers of z_0 + σ ε start from noise of another scale than 1.
        sigmas: list[float] = [] if float(scheduler.init_noise_sigma) == 1 else scheduler.sigmas[: len(native)].tolist()
        self._spread = {t: (1 + sigma**2) ** 0.5 for t, sigma in zip(reversed(self.timesteps), reversed(sigmas), strict=False)}
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        self._extra = {"generator": self._generator} if takes_generator else {}
        if not _visits_each_level_once(scheduler):
            raise InputError(
                f"{type(scheduler).__name__} visits a noise level twice; use a first-order or multi-step scheduler, "
                "such as DDIM, Euler, DPM-Solver++ or UniPC")

    def paper_timestep(self, timestep: int) -> int:
        return paper_timestep(float(self._scheduler.alphas_cumprod[timestep]))

    def start(self, noise: Tensor) -> Tensor:
        self._begin()
        return noise * (float(self._scheduler.init_noise_sigma) / self._spread.get(self.timesteps[0], 1.0))

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return self._scheduler.scale_model_input(self._exploded(latents, timestep), self._native[timestep])

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        exploded = self._exploded(latents, timestep)
        stepped = self._scheduler.step(output, self._native[timestep], exploded, **self._extra).prev_sample
        # by the scheduler's own count, as two steps may have one timestep
        if not self._spread or (index := self._scheduler.step_index) == len(self.timesteps):
            return stepped
        return stepped / self._spread[self.timesteps[index]]

    def _exploded(self, latents: Tensor, timestep: int) -> Tensor:
        """z_t as the scheduler has it."""
        return latents * self._spread[timestep] if self._spread else latents


def _visits_each_level_once(scheduler: Any) -> bool:
    timesteps, sigmas = scheduler.timesteps, getattr(scheduler, "sigmas", None)
    if scheduler.order != 1:
        return False
    # Several steps within one timestep are steps all the same, where the noise level says so.
    falls = sigmas is not None and bool((sigmas[1:] < sigmas[:-1]).all())
    return falls or len(timesteps.unique()) == len(timesteps)


def unreached(stepper: Stepper, threshold: int) -> str | None:
    """Why a run has no step that is as noisy as T_G, and context maps take no part in it (Eq. 9); None where it has one."""
    first = max(map(stepper.paper_timestep, stepper.timesteps))
    if first >= threshold or threshold > LAST_TIMESTEP:
        return None
    return (f"the first of {len(stepper.timesteps)} steps is at timestep {first}, below T_G {threshold}, so context maps "
            "take no part; take more steps, or a scheduler that starts at the noisiest one (ddim-trailing, euler, lcm)")


def initial_noise(
    shape: tuple[int, int, int, int], seed: int, layer_seeds: Mapping[int, int] | None = None, *, stacks: int = 1
) -> Tensor:
    """Unit noise (stacks, rows, c, h, w) for ``shape`` = (rows, c, h, w).

    Row r of stack s is drawn from its own generator, seeded by (seed + s, r), so that a seed given for one layer in
    ``layer_seeds`` changes that row alone, and adding a layer changes no other. InputError for a seed of no row.
    """
    rows, *rest = shape
    seeds = layer_seeds or {}
    if unknown := [row for row in seeds if not 0 <= row < rows]:
        raise InputError(f"got a seed for layer {unknown[0]}; the rows of this picture are 0 to {rows - 1}")

    def draw(stack: int, row: int) -> Tensor:
        # The global row is always last: number it from the end, so that it does not move when a layer is added.
        number = row if row < rows - 1 else -1
        own = _mixed(seeds.get(row, seed) + stack, number)
        return torch.randn(rest, generator=torch.Generator().manual_seed(own))

    return torch.stack([torch.stack([draw(stack, row) for row in range(rows)]) for stack in range(stacks)])


def _mixed(seed: int, row: int) -> int:
    # torch's CPU generator heeds only 32 bits of a seed: seed * rows + row would repeat itself after a million seeds.
    return int.from_bytes(hashlib.blake2b(f"{seed} {row}".encode(), digest_size=4).digest(), "little")


def sample_layers(
    denoise: Denoise, noise: Tensor, stepper: Stepper, *, keep: HarmonizationConfig | None = None,
    keep_all: bool = False, replay: Replay | None = None, on_step: OnStep | None = None,
) -> tuple[Tensor, Trajectory]:
    """Denoise all rows (stacks, rows, c, h, w) together; keep z_t from T_H's noise level to T'_H's where ``keep`` is given.

    ``keep_all`` keeps z_t of every timestep, and z_0 under ``FINAL``. The rows of ``replay`` are set to their stored
    z_t before every call of the model and to their stored z_0 at the end: the other rows see them, and they come out
    bit-identical, but for those with a start. Raises InputError, before the first step, if no step of the run lies in the range of ``keep``, or
    ``replay`` does not fit the run.
    """
    kept = [] if keep is None else [t for t in stepper.timesteps if keep.fuses(stepper.paper_timestep(t))]
    if keep is not None and not kept:
        raise InputError(
            f"got {len(stepper.timesteps)} steps, none of them from T_H {keep.high} to T'_H {keep.low}; take more "
            "steps, widen the range, or switch harmonisation off")
    if replay is not None:
        replay.check(noise, stepper.timesteps)
    latents, trajectory = stepper.start(noise), Trajectory()
    for index, timestep in enumerate(stepper.timesteps):
        if replay is not None:
            latents = replay.onto(latents, timestep)
        if on_step is not None:
            on_step(Step(stage="layers", index=index, total=len(stepper.timesteps), timestep=timestep, latents=latents))
        if keep_all or timestep in kept:
            trajectory.latents[timestep] = latents
        latents = stepper.step(denoise(stepper.model_input(latents, timestep), timestep), latents, timestep)
    if replay is not None:
        latents = replay.onto(latents, FINAL)
    if keep_all:
        trajectory.latents[FINAL] = latents
    return latents, trajectory


def harmonize(
    denoise: Denoise, trajectory: Trajectory, alphas: Tensor, stepper: Stepper, *, on_step: OnStep | None = None
) -> Tensor:
    """Information retained harmonisation (Sec. 3.3): the picture's latents (stacks, c, h, w).

    Starts from the background's z at the first kept timestep; while z_t was kept, the foregrounds' are laid over it by
    ``alphas`` (stacks, fg, 1, h, w at the latent's size; Eq. 12); below that it denoises freely. ``denoise`` gets one
    row a stack, to be guided by the global prompt. ``stepper`` may be the one that sampled: it starts afresh.
    Everything in ``trajectory`` is fused: cut a whole one with ``Trajectory.between``.
    Raises InputError if nothing was kept, or at other timesteps than those of ``stepper``.
    """
    kept = {t: z for t, z in trajectory.latents.items() if t != FINAL}
    if not kept:
        raise InputError("no latents were kept between T'_H and T_H; sample with keep=HarmonizationConfig(...)")
    if strange := sorted(kept.keys() - set(stepper.timesteps)):
        raise InputError(
            f"got latents kept at timestep {strange[-1]}, which a run of {len(stepper.timesteps)} steps does not visit; "
            "take the sampler and the steps of the run that they were kept in")
    first = max(kept)
    steps = [t for t in stepper.timesteps if t <= first]
    stepper.start(kept[first])
    picture = kept[first][:, 0]
    for index, timestep in enumerate(steps):
        if on_step is not None:
            on_step(Step(stage="harmonize", index=index, total=len(steps), timestep=timestep, latents=picture[:, None]))
        if timestep in kept:
            picture = fuse_latents(picture, kept[timestep][:, 1:-1], alphas)
        output = denoise(stepper.model_input(picture[:, None], timestep), timestep)
        picture = stepper.step(output, picture[:, None], timestep)[:, 0]
    return picture
