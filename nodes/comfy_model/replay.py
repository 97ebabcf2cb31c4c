"""Rows that follow a stored run while the others are sampled and see them, with any of ComfyUI's samplers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import comfy.model_patcher
import comfy.samplers
from einops import rearrange
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.sampling import FINAL, Replay, Trajectory
from ...dreamlayer_core.schedule import around, first_own_step
from ..sockets import SampledTrajectory
from .harmonize import check_trajectory, same_level

__all__ = ["RowReplay", "RowStarts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RowReplay:
    """Sets stored rows before every call of the model, and at the end: they come out bit-identical, and the rest sees them.

    What the sampler itself makes of these rows is never looked at: it treats every row alone, so any sampler will do.
    Where it comes to a level several times, so does the replay; where it calls the model between two kept levels, the rows
    stand between the two in proportion of sigma: exact on the straight paths of noised pictures and of Euler's steps.
    """

    replay: Replay  # z_t by the number of its call, as the sampler has it, and the LATENT values under FINAL
    start: Replay  # rows that are sampled, from where the stored run started
    levels: tuple[float, ...]  # sigmas, descending
    calls: tuple[range, ...]  # the numbers at each level
    rows: int

    @classmethod
    def of(cls, trajectory: SampledTrajectory, rows: Sequence[int], *, start: Sequence[int] = ()) -> RowReplay:
        """Rows of a stored run; ``start`` are sampled rows that begin as they did there.

        InputError for runs of which not all was kept.
        """
        check_trajectory(trajectory, "so nothing of its run can be replayed")
        if trajectory.final is None:
            raise InputError(
                "got a trajectory without its end, of which nothing can be replayed; connect that of Layered KSampler or "
                "Noise Layers")
        kept = {sigma: list(calls) for sigma, calls in trajectory.between.items()}
        for sigma, latents in zip(trajectory.sigmas[:-1].tolist(), trajectory.latents, strict=True):
            kept.setdefault(sigma, []).append(latents)
        levels = tuple(sorted(kept, reverse=True))
        ends = list(accumulate((len(kept[level]) for level in levels), initial=0))
        path = [z for level in levels for z in kept[level]] + [trajectory.final]
        whole = Trajectory({number: _stacked(z, trajectory.rows) for number, z in zip([*range(ends[-1]), FINAL], path, strict=True)})
        return cls(replay=Replay.of(whole, rows), start=Replay.of(whole, start), levels=levels,
                   calls=tuple(range(*pair) for pair in pairwise(ends)), rows=trajectory.rows)

    def check(self, noise: Tensor) -> None:
        """Does it fit a run on ``noise`` ((stacks rows), c, h, w)? InputError if not."""
        self.replay.check(_stacked(noise, self.rows), range(self.calls[-1].stop))

    def following(self) -> Callable[..., Tensor]:
        """A PREDICT_NOISE wrapper for one run."""
        visits = Counter[int]()

        def predict_noise(executor: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            sigma = float(timestep.flatten()[0])
            place = next((i for i, level in enumerate(self.levels) if same_level(level, sigma)), None)
            if place is None:
                return executor(self._between(x, sigma), timestep, *args, **kwargs)
            calls = self.calls[place]
            number = calls[min(visits[place], len(calls) - 1)]
            visits[place] += 1
            return executor(self._onto(x, number), timestep, *args, **kwargs)

        return predict_noise

    def starting(self, sampler: comfy.samplers.KSAMPLER) -> comfy.samplers.KSAMPLER:
        """The sampler, with the rows of ``start`` set before its first step."""

        def sample(model: Any, x: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
            x = self.start.onto(_stacked(x, self.rows), self.calls[0][-1]).flatten(0, 1)
            return sampler.sampler_function(model, x, sigmas, **options)

        return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)

    def ended(self, samples: Tensor) -> Tensor:
        """LATENT values ((stacks rows), c, h, w) after the last step, with the rows as the stored run left them."""
        return self._onto(samples, FINAL)

    def _onto(self, x: Tensor, number: int) -> Tensor:
        return self.replay.onto(_stacked(x, self.rows), number).flatten(0, 1)

    def _between(self, x: Tensor, sigma: float) -> Tensor:
        below, above, share = around(self.levels, sigma)
        return self._onto(x, self.calls[below][-1]).lerp(self._onto(x, self.calls[above][-1]), share)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowStarts:
    """Rows of a run that stand at the latent that came in, noised to the level of every call, until their own steps begin.

    The sampler is told meanwhile that the model finds that latent, and so brings it to where they begin.
    """

    samples: Tensor  # LATENT values that came in, ((stacks rows), c, h, w)
    clean: Tensor  # as the model has them
    noise: Tensor
    levels: Mapping[int, float]  # by row: the noise level that its own steps begin at, 0 for none of its own
    rows: int
    scaling: Callable[[Tensor, Tensor, Tensor], Tensor]  # sigma, noise, latent -> noisy latent

    @classmethod
    def of(
        cls, model: comfy.model_patcher.ModelPatcher, run: SampledTrajectory, noise: Tensor, strengths: Mapping[int, float]
    ) -> RowStarts:
        """Rows with a denoise each in a run whose ``start`` is known. InputError for more than the run's own."""
        assert run.start is not None
        samples, steps = run.start["samples"], len(run.sigmas) - 1
        for row, strength in strengths.items():
            if strength > run.denoise:
                raise InputError(
                    f"got a denoise of {strength:g} for row {row} in a run of {run.denoise:g}; give the run as much as its "
                    "rows, and the others less")
        first = {row: first_own_step(steps, strength / run.denoise) for row, strength in strengths.items()}
        levels = {row: float(run.sigmas[step]) if step < steps else 0.0 for row, step in first.items()}
        return cls(
            samples=samples, clean=model.get_model_object("latent_format").process_in(samples.float()), noise=noise,
            levels=levels, rows=run.rows, scaling=model.get_model_object("model_sampling").noise_scaling)

    def following(self) -> Callable[..., Tensor]:
        """A PREDICT_NOISE wrapper for one run."""
        def predict_noise(executor: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            held = self._held(timestep)
            if not held:
                return executor(x, timestep, *args, **kwargs)
            found = executor(self._noised(x, timestep, held), timestep, *args, **kwargs).clone()
            found[held] = self.clean[held].to(found)
            return found

        return predict_noise

    def starting(self, sampler: comfy.samplers.KSAMPLER) -> comfy.samplers.KSAMPLER:
        """The sampler, with these rows noised from the latent even where a run starts from noise alone."""
        def sample(model: Any, x: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
            return sampler.sampler_function(model, self._noised(x, sigmas[0], self._held(sigmas[0])), sigmas, **options)

        return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)

    def _held(self, sigmas: Tensor) -> list[int]:
        """Which latents of the batch have no steps of their own yet."""
        sigma = float(sigmas.flatten()[0])
        return self._index(row for row, level in self.levels.items() if sigma > level and not same_level(sigma, level))

    def _noised(self, x: Tensor, sigmas: Tensor, held: Sequence[int]) -> Tensor:
        x = x.clone()
        x[held] = self.scaling(sigmas.flatten()[:1], self.noise[held].to(x), self.clean[held].to(x))
        return x

    def ended(self, samples: Tensor) -> Tensor:
        """LATENT values after the last step, with the rows that took none as they came in."""
        kept = self._index(row for row, level in self.levels.items() if level == 0)
        samples = samples.clone()
        samples[kept] = self.samples[kept].to(samples)
        return samples

    def _index(self, rows: Iterable[int]) -> list[int]:
        """Where these rows are in a batch."""
        chosen = set(rows)
        return [index for index in range(len(self.samples)) if index % self.rows in chosen]


def _stacked(latents: Tensor, rows: int) -> Tensor:
    return rearrange(latents, "(stack row) c h w -> stack row c h w", row=rows)
