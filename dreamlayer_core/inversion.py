"""Inversion: from a picture's latent back to the noise that sampling makes it from (App. E), with an injected model.

    ddim         z_t from z_s by one call of the model, as if its output at z_s were that at z_t: it drifts
    fixed-point  the same, iterated until the output at z_t gives z_s: as near as the iteration comes
    exact        BDIA: two latents carry the run, and every step can be undone algebraically
    replay       ddim, but the global row of the samples follows its own inversion: it never leaves the picture

All of them keep every z_t, and are sampled back by ``sample_back``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from .attention.inversion import inversion_mask
from .config import HarmonizationConfig, InversionConfig
from .errors import InputError
from .layer_run import JointMask
from .sampling import FINAL, DdimStepper, Denoise, OnStep, Replay, Step, Stepper, Trajectory, sample_layers
from .schedule import NoiseSchedule

__all__ = ["BdiaStepper", "Inversion", "bdia_source", "bdia_step", "check_steps", "ddim_source", "fixed_point_source",
           "invert", "joint_mask", "relative_error", "sample_back"]

# 2^-20: a sum of numbers on this grid is exact in fp32 below 16, and a latent is that much off by 3e-7 of its spread.
_GRID = 2.0**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Inversion:
    """A picture taken back to noise.

    ``trajectory`` has every z_t (stacks, rows, c, h, w), and z_0 under ``FINAL``; ``residuals`` by timestep how far a
    step is from giving z_s again, of the worst row and relative: of fixed-point's steps, and of the first of exact's.
    """

    trajectory: Trajectory
    residuals: Mapping[int, float]
    config: InversionConfig
    schedule: NoiseSchedule
    steps: int

    @property
    def noise(self) -> Tensor:
        """z_T (stacks, rows, c, h, w): what sampling starts from."""
        return self.trajectory.latents[max(self.trajectory.latents)]

    def stepper(self) -> Stepper:
        """A sampler of the same kind and timesteps; BDIA's carries the second latent of its state."""
        if self.config.method != "exact":
            return DdimStepper(self.schedule, self.steps)
        second = self.trajectory.latents[self.schedule.timesteps(self.steps)[1]]
        return BdiaStepper(self.schedule, self.steps, second, self.config.gamma)

    @property
    def replay(self) -> Replay | None:
        """What the global row is to follow, if the method says so."""
        return Replay.of(self.trajectory, [self.noise.shape[1] - 1]) if self.config.method == "replay" else None

    def to(self, device: torch.device | str) -> Inversion:
        """The same with its latents on a device."""
        return replace(self, trajectory=Trajectory({t: z.to(device) for t, z in self.trajectory.latents.items()}))


def joint_mask(config: InversionConfig, device: torch.device) -> JointMask | None:
    """The mask of the joint attention while inverting (Eq. 14-16), made once a resolution; None where it is off."""
    return cache(partial(inversion_mask, queries=config.mask_queries, device=device)) if config.masked else None


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over that of ``wanted``, of the worst row of (stacks, rows, c, h, w)."""
    axes = (-3, -2, -1)
    norms = torch.linalg.vector_norm(wanted.float(), dim=axes).clamp(min=torch.finfo(torch.float32).tiny)
    return float((torch.linalg.vector_norm(found.float() - wanted.float(), dim=axes) / norms).amax())


def ddim_source(schedule: NoiseSchedule, output: Tensor, latents: Tensor, timestep: int, previous: int) -> Tensor:
    """The z_t that a DDIM step from ``timestep`` to ``previous`` takes to ``latents`` (z_s) if the model says ``output``.

    DDIM is linear in both: z_s = a z_t + b output, so z_t = (z_s - b output) / a (Song et al. 2020, Eq. 12, σ = 0).
    """
    zero, one = torch.zeros(1, device=latents.device), torch.ones(1, device=latents.device)
    a, b = (schedule.ddim_step(y, z, timestep, previous) for y, z in ((zero, one), (one, zero)))
    return (latents - b * output) / a


def fixed_point_source(
    denoise: Denoise, latents: Tensor, timestep: int, previous: int, schedule: NoiseSchedule, *, iterations: int,
    tolerance: float,
) -> tuple[Tensor, float]:
    """The z_t from which one DDIM step gives ``latents``, by iterating z_t = ddim_source(model(z_t)) (Pan et al. 2023).

    One iteration is plain DDIM inversion. Where an iteration makes it worse, it goes back and takes half of the way from
    there on: guided models need not contract. Returns z_t and the last measured residual, the relative change of the worst
    row that an iteration still asks for; ends at ``tolerance`` or after ``iterations``.
    """
    guess, weight, least = latents, 1.0, float("inf")
    best = (latents, latents)
    for _ in range(iterations):
        found = ddim_source(schedule, denoise(guess, timestep), latents, timestep, previous)
        residual = relative_error(guess, found)
        if residual >= least:
            weight /= 2
        else:  # also a NaN, which has to be seen
            best, least = (guess, found), residual
        guess = torch.lerp(*best, weight)
        if least <= tolerance:
            break
    return guess, least


def bdia_step(
    schedule: NoiseSchedule, output: Tensor, latents: Tensor, before: Tensor, timesteps: tuple[int, int, int], gamma: float
) -> Tensor:
    """z_s = D(z_t: t -> s) + γ (z_u - D(z_t: t -> u)), D being DDIM (Zhang et al. 2023, Eq. 19, written with it).

    ``timesteps`` are (u, t, s), descending; ``before`` is z_u, ``latents`` z_t, ``output`` the model's at z_t.
    """
    return gamma * before + _bdia_move(schedule, output, latents, timesteps, gamma)


def bdia_source(
    schedule: NoiseSchedule, output: Tensor, latents: Tensor, after: Tensor, timesteps: tuple[int, int, int], gamma: float
) -> Tensor:
    """z_u of ``bdia_step``, from z_t (``latents``) and z_s (``after``)."""
    return (after - _bdia_move(schedule, output, latents, timesteps, gamma)) / gamma


def _bdia_move(
    schedule: NoiseSchedule, output: Tensor, latents: Tensor, timesteps: tuple[int, int, int], gamma: float
) -> Tensor:
    above, here, below = timesteps
    down, up = (schedule.ddim_step(output, latents, here, to) for to in (below, above))
    return _on_grid(down - gamma * up)


def _on_grid(values: Tensor) -> Tensor:
    # Moves and latents on one grid: adding and taking away a move is exact, so that with γ = 1 both ways pass through
    # the very same bits. Without it rounding grows with every step, and more so under guidance.
    return (values * _GRID).round() / _GRID


class BdiaStepper:
    """Bidirectional integration approximation on DDIM's timesteps (Zhang, Lewis, Kleijn 2023, arXiv 2307.10829).

    Its state is two latents: z_t, which goes through the loop, and z_u of the step before, kept here. A run starts from
    (z_T, ``second``), ``second`` being z at the second timestep; the first call of the model only serves those who look
    on. Raises InputError with fewer than two steps, and for a run that starts in the middle, as harmonisation does.
    """

    def __init__(self, schedule: NoiseSchedule, steps: int, second: Tensor, gamma: float = 1.0) -> None:
        _check_two(steps)
        self.schedule, self.second, self.gamma = schedule, second, gamma
        self.timesteps, self.paper_timestep = schedule.timesteps(steps), schedule.paper_timestep
        self._around = _triples(self.timesteps)
        self._before: Tensor | None = None

    def start(self, noise: Tensor) -> Tensor:
        self._before = None
        return noise

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return latents

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        before, self._before = self._before, latents
        if before is not None:
            return bdia_step(self.schedule, output, latents, before, self._around[timestep], self.gamma)
        if timestep != self.timesteps[0] or self.second.shape != latents.shape:
            raise InputError(
                f"got latents {tuple(latents.shape)} at timestep {timestep} as the start of a BDIA run; it starts at "
                f"{self.timesteps[0]} with {tuple(self.second.shape)}, so take DDIM here")
        return self.second


def _triples(timesteps: list[int]) -> dict[int, tuple[int, int, int]]:
    """(u, t, s) by t, for all timesteps but the first."""
    return {t: (u, t, s) for u, t, s in zip(timesteps, timesteps[1:], [*timesteps[2:], FINAL], strict=False)}


def check_steps(config: InversionConfig, steps: int) -> None:
    """Raises InputError for fewer steps than the method needs."""
    if config.method == "exact":
        _check_two(steps)


def _check_two(steps: int) -> None:
    if steps < 2:
        raise InputError(f"got {steps} steps for an exact inversion; give 2 or more")


def invert(
    denoise: Denoise, clean: Tensor, schedule: NoiseSchedule, steps: int, config: InversionConfig | None = None, *,
    on_step: OnStep | None = None,
) -> Inversion:
    """Take z_0 (stacks, rows, c, h, w) back to z_T over the timesteps of a DDIM run of ``steps``, keeping every z_t.

    z_0 is taken as what is left after the last step, so at the schedule's first noise level. ``on_step`` hears of the stage
    "invert" before every step. Raises InputError for fewer than two steps of the exact method.
    """
    config = config or InversionConfig()
    check_steps(config, steps)
    exact = config.method == "exact"
    timesteps, residuals = schedule.timesteps(steps), dict[int, float]()
    latents = clean.float()
    kept, around = {FINAL: _on_grid(latents) if exact else latents}, _triples(timesteps)
    previous = FINAL
    for index, timestep in enumerate(reversed(timesteps)):
        if on_step is not None:
            on_step(Step(stage="invert", index=index, total=steps, timestep=timestep, latents=kept[previous]))
        if exact and index > 0:
            _, _, below = triple = around[previous]
            output = denoise(kept[previous], previous)
            kept[timestep] = bdia_source(schedule, output, kept[previous], kept[below], triple, config.gamma)
        else:
            kept[timestep], residual = _one_step(denoise, kept[previous], timestep, previous, schedule, config)
            if config.method in ("exact", "fixed-point"):
                residuals[timestep] = residual
        previous = timestep
    return Inversion(trajectory=Trajectory(kept), residuals=residuals, config=config, schedule=schedule, steps=steps)


def _one_step(
    denoise: Denoise, latents: Tensor, timestep: int, previous: int, schedule: NoiseSchedule, config: InversionConfig
) -> tuple[Tensor, float]:
    """The next z_t of the methods that know one latent, and of BDIA's first step, whose second latent is free."""
    iterated = config.method in ("exact", "fixed-point")
    found, residual = fixed_point_source(
        denoise, latents, timestep, previous, schedule, iterations=config.iterations if iterated else 1,
        tolerance=config.tolerance)
    return _on_grid(found) if config.method == "exact" else found, residual


def sample_back(
    denoise: Denoise, inversion: Inversion, *, keep: HarmonizationConfig | None = None, keep_all: bool = False,
    on_step: OnStep | None = None,
) -> tuple[Tensor, Trajectory]:
    """Sample from the noise of an inversion as its method wants it: z_0 (stacks, rows, c, h, w) and what was kept.

    With the model that inverted it this is the round trip; with others, such as the layers' prompts without the mask, a
    picture taken apart. ``keep``, ``keep_all`` and ``on_step`` as in ``sample_layers``.
    """
    return sample_layers(
        denoise, inversion.noise, inversion.stepper(), keep=keep, keep_all=keep_all, replay=inversion.replay,
        on_step=on_step)
