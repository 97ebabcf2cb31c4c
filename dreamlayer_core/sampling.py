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
from .schedule import NoiseSchedule

__all__ = ["DdimStepper", "Denoise", "DiffusersStepper", "OnStep", "Step", "Stepper", "Trajectory", "harmonize",
           "initial_noise", "sample_layers"]

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
    """Noisy latents (stacks, rows, c, h, w) kept while sampling, by timestep."""

    latents: dict[int, Tensor] = field(default_factory=lambda: dict[int, Tensor]())


class Stepper(Protocol):
    """One sampling method on one list of descending timesteps."""

    @property
    def timesteps(self) -> Sequence[int]: ...
    def start(self, noise: Tensor) -> Tensor:
        """Initial latents of a run from unit noise; also forgets any state of an earlier run."""
        ...
    def model_input(self, latents: Tensor, timestep: int) -> Tensor: ...
    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor: ...


class DdimStepper:
    """DDIM without noise, on the schedule itself (App. B)."""

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        self.schedule, self.timesteps = schedule, schedule.timesteps(steps)
        self._previous = dict(zip(self.timesteps, [*self.timesteps[1:], -1], strict=True))

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return latents

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        return self.schedule.ddim_step(output, latents, timestep, self._previous[timestep])


class DiffusersStepper:
    """Any diffusers scheduler that calls the model once a step. ``make`` builds a fresh one a run: many carry state.

    Give it the betas and the prediction type of the model. Noise that an ancestral scheduler adds is drawn from
    ``generator``, which goes on from run to run. Raises InputError for schedulers that revisit a noise level (Heun,
    KDPM2, PNDM): the harmonisation pass enters in mid-run, which they do not allow.
    """

    def __init__(self, make: Callable[[], Any], steps: int, generator: torch.Generator | None = None) -> None:
        self._make, self._steps, self._generator = make, steps, generator
        self._begin()

    def _begin(self) -> None:
        scheduler = self._scheduler = self._make()
        scheduler.set_timesteps(self._steps)
        native = list(scheduler.timesteps)
        self.timesteps: Sequence[int] = [round(float(t)) for t in native]
        # Steps close together (Karras) can round to one timestep. The first stands for it: a scheduler looks up where
        # a run starts, and counts from there.
        self._native = dict(zip(reversed(self.timesteps), reversed(native), strict=True))
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        self._extra = {"generator": self._generator} if takes_generator else {}
        if not _visits_each_level_once(scheduler):
            raise InputError(
                f"{type(scheduler).__name__} visits a noise level twice; use a first-order or multi-step scheduler, "
                "such as DDIM, Euler, DPM-Solver++ or UniPC")

    def start(self, noise: Tensor) -> Tensor:
        self._begin()
        return noise * float(self._scheduler.init_noise_sigma)

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return self._scheduler.scale_model_input(latents, self._native[timestep])

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        return self._scheduler.step(output, self._native[timestep], latents, **self._extra).prev_sample


def _visits_each_level_once(scheduler: Any) -> bool:
    timesteps, sigmas = scheduler.timesteps, getattr(scheduler, "sigmas", None)
    if scheduler.order != 1:
        return False
    # Several steps within one timestep are steps all the same, where the noise level says so.
    falls = sigmas is not None and bool((sigmas[1:] < sigmas[:-1]).all())
    return falls or len(timesteps.unique()) == len(timesteps)


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
    on_step: OnStep | None = None,
) -> tuple[Tensor, Trajectory]:
    """Denoise all rows (stacks, rows, c, h, w) together; keep z_t for T'_H <= t <= T_H where ``keep`` is given.

    Raises InputError, before the first step, if no step of the run lies in that range.
    """
    if keep is not None and not any(keep.low <= t <= keep.high for t in stepper.timesteps):
        raise InputError(
            f"got {len(stepper.timesteps)} steps, none of them from T_H {keep.high} to T'_H {keep.low}; take more "
            "steps, widen the range, or switch harmonisation off")
    latents, trajectory = stepper.start(noise), Trajectory()
    for index, timestep in enumerate(stepper.timesteps):
        if on_step is not None:
            on_step(Step(stage="layers", index=index, total=len(stepper.timesteps), timestep=timestep, latents=latents))
        if keep is not None and keep.low <= timestep <= keep.high:
            trajectory.latents[timestep] = latents
        latents = stepper.step(denoise(stepper.model_input(latents, timestep), timestep), latents, timestep)
    return latents, trajectory


def harmonize(
    denoise: Denoise, trajectory: Trajectory, alphas: Tensor, stepper: Stepper, *, on_step: OnStep | None = None
) -> Tensor:
    """Information retained harmonisation (Sec. 3.3): the picture's latents (stacks, c, h, w).

    Starts from the background's z at the first kept timestep; while z_t was kept, the foregrounds' are laid over it by
    ``alphas`` (stacks, fg, 1, h, w at the latent's size; Eq. 12); below that it denoises freely. ``denoise`` gets one
    row a stack, to be guided by the global prompt. ``stepper`` may be the one that sampled: it starts afresh.
    Raises InputError if nothing was kept.
    """
    kept = trajectory.latents
    if not kept:
        raise InputError("no latents were kept between T'_H and T_H; sample with keep=HarmonizationConfig(...)")
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
