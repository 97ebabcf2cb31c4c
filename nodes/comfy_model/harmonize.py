"""Information retained harmonisation (Sec. 3.3) with any of ComfyUI's samplers, and the recorder of what it needs."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import torch
from einops import rearrange
from torch import Tensor

from ...dreamlayer_core.config import HarmonizationConfig
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.harmonization import fuse_latents, resize_alpha
from ...dreamlayer_core.schedule import exploded_signal, paper_timestep
from ..sockets import LAYERS_KEY, SampledTrajectory
from .guidance import guided_model, row_cfgs
from .layer_control import change_controls, of_global_row
from .layer_patch import without_adapter

__all__ = ["Recorder", "check_trajectory", "harmonize", "same_level"]

_SAME = 1e-4  # relative; samplers take logarithms of levels and come back. The closest two of 1000 are 6e-3 apart


def same_level(sigma: float, other: float) -> bool:
    """Whether two noise levels are one, but for rounding."""
    return math.isclose(sigma, other, rel_tol=_SAME)


class Recorder:
    """Keeps z_t of every call of the model, as the sampler has it (variance-exploding), on the CPU."""

    def __init__(self, sigmas: Tensor) -> None:
        self.wanted = [float(sigma) for sigma in sigmas[:-1]]
        self.calls: dict[float, list[Tensor]] = {}

    def predict_noise(self, executor: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """PREDICT_NOISE wrapper. Samplers that look ahead come back to a level: what they start from is what they bring last."""
        sigma = float(timestep.flatten()[0])
        level = next((level for level in self.wanted if same_level(level, sigma)), sigma)
        self.calls.setdefault(level, []).append(x.detach().to("cpu", torch.float32, copy=True))
        return executor(x, timestep, *args, **kwargs)

    def trajectory(self) -> tuple[Tensor, ...]:
        """One z_t for every step; none at all where a sampler goes its own way between the first level and the last."""
        if any(sigma not in self.calls for sigma in self.wanted):
            return ()
        return tuple(self.calls[sigma][-1] for sigma in self.wanted)

    def between(self) -> dict[float, tuple[Tensor, ...]]:
        """z_t of all other calls by sigma, in order: those of samplers of higher order."""
        others = {sigma: tuple(calls[:-1] if sigma in self.wanted else calls) for sigma, calls in self.calls.items()}
        return {sigma: calls for sigma, calls in others.items() if calls}


def harmonize(
    model: comfy.model_patcher.ModelPatcher, trajectory: SampledTrajectory, alphas: Tensor, config: HarmonizationConfig,
    strength: float, callback: Any = None,
) -> Tensor:
    """The harmonised pictures as LATENT values (stacks, c, h, w).

    ``alphas`` (stacks, fg, 1, h, w) at any size; ``strength`` scales them. Raises InputError for ranges without a step,
    and for samplers that left no trajectory.
    """
    check_trajectory(trajectory)
    levels = trajectory.sigmas[:-1]
    times = [paper_timestep(exploded_signal(float(sigma))) for sigma in levels]
    fused = [index for index, time in enumerate(times) if config.fuses(time)]
    if not fused:
        raise InputError(
            f"no step of the sampled trajectory lies from T_H {config.high} to T'_H {config.low} (its timesteps are "
            f"{', '.join(map(str, times))}); widen the range, or sample with more steps or denoise")
    kept = {index: _stacked(trajectory, index) for index in fused}
    size = kept[fused[0]].shape[-2:]
    small = resize_alpha(alphas.float(), (size[0], size[1])) * strength
    inner = comfy.samplers.sampler_object(trajectory.sampler)
    guided = _Fusing(inner, kept, small, first=fused[0])
    cfgs = row_cfgs(trajectory, [trajectory.layers.rows - 1])
    guider = comfy.samplers.CFGGuider(guided_model(without_adapter(model), trajectory, cfgs))
    guider.set_conds(*map(_global_row, change_controls((trajectory.positive, trajectory.negative), of_global_row)))
    guider.set_cfg(cfgs[0])
    start = torch.zeros_like(kept[fused[0]][:, 0])
    return guider.sample(
        start, start, comfy.samplers.KSAMPLER(guided), trajectory.sigmas[fused[0]:], callback=callback,
        disable_pbar=False, seed=trajectory.seed)


def check_trajectory(trajectory: SampledTrajectory, so: str = "so its pictures cannot be harmonised") -> None:
    """Raises InputError for the trajectory of a sampler that passed its noise levels by."""
    if not trajectory.latents:
        raise InputError(
            f"the sampler {trajectory.sampler!r} chooses its own noise levels, {so}; choose another in Layered KSampler, "
            "such as ddim, euler or dpmpp_2m")


def _stacked(trajectory: SampledTrajectory, index: int) -> Tensor:
    return rearrange(trajectory.latents[index], "(stack row) c h w -> stack row c h w", row=trajectory.rows)


def _global_row(conditioning: list[Any]) -> list[Any]:
    """The conditioning of the whole picture alone: the last row of layered entries."""
    return [_last_row(text, extra) if LAYERS_KEY in extra else [text, extra] for text, extra in conditioning]


def _last_row(text: Tensor, extra: dict[str, Any]) -> list[Any]:
    alone = {name: value for name, value in extra.items() if name != LAYERS_KEY}
    if alone.get("pooled_output") is not None:
        alone["pooled_output"] = alone["pooled_output"][-1:]
    return [text[-1:], alone]


class _Fusing:
    """A sampling function that lays the foregrounds over the picture at every kept step (Eq. 12), then samples freely."""

    def __init__(self, inner: Any, kept: dict[int, Tensor], alphas: Tensor, *, first: int) -> None:
        self.inner, self.kept, self.alphas, self.first = inner, kept, alphas, first

    def __call__(
        self, model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None,
        **options: Any,
    ) -> Tensor:
        picture = self.kept[self.first][:, 0].to(x)
        alphas, index = self.alphas.to(x), 0
        while self.first + index in self.kept and index < len(sigmas) - 1:
            picture = fuse_latents(picture, self.kept[self.first + index][:, 1:-1].to(x), alphas)
            picture = self._sample(model, picture, sigmas[index : index + 2], extra_args, callback, index, disable)
            index += 1
        if index < len(sigmas) - 1:
            picture = self._sample(model, picture, sigmas[index:], extra_args, callback, index, disable)
        return picture

    def _sample(
        self, model: Any, picture: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, done: int, disable: Any
    ) -> Tensor:
        def report(state: dict[str, Any]) -> None:
            callback({**state, "i": done + state["i"]})

        return self.inner.sampler_function(
            model, picture, sigmas, extra_args=extra_args, callback=report if callback else None, disable=True,
            **self.inner.extra_options)
