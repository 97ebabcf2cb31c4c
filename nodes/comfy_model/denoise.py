"""The core's loops on a MODEL: its guided call, on its own noise levels, as the ``Denoise`` that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.sampling import Denoise, OnStep, Step
from ...dreamlayer_core.schedule import GivenSchedule

__all__ = ["Loop", "model_schedule", "run_loop"]

Loop = Callable[[Denoise, OnStep], Tensor]
"""Called with the model and what to tell of every step -> latents (stacks, rows, c, h, w) as the core has them."""

Callback = Callable[[int, Tensor, Tensor, int], None]


def model_schedule(model: comfy.model_patcher.ModelPatcher) -> GivenSchedule:
    """The noise levels of a MODEL. Raises InputError for one that is no diffusion model of Stable Diffusion's kind."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.EPS):  # the base class of those that predict velocity as well
        raise InputError(
            f"got a model that samples by {type(sampling).__name__}; give one that predicts noise or velocity, such as "
            "Stable Diffusion or the embedded model")
    velocity = isinstance(sampling, comfy.model_sampling.V_PREDICTION)
    return GivenSchedule(
        sigmas=sampling.sigmas.cpu(), train_steps=len(sampling.sigmas),
        prediction_type="v_prediction" if velocity else "epsilon")


def run_loop(
    model: comfy.model_patcher.ModelPatcher, positive: list[Any], negative: list[Any], cfg: float, shape: torch.Size,
    steps: int, loop: Loop, callback: Callback,
) -> Tensor:
    """What ``loop`` makes of latents of ``shape`` (stacks, rows, c, h, w), with the MODEL loaded and its hooks in place.

    ``callback`` is of ``step_callback``: it hears of every step once, after the first call of the model in it.
    """
    schedule = model_schedule(model)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    empty, made = torch.zeros(shape).flatten(0, 1), list[Tensor]()

    def sampling_function(predict: Any, x: Tensor, sigmas: Tensor, *, extra_args: Any, **options: Any) -> Tensor:
        denoise = _Predicted(lambda noisy, sigma: predict(noisy, sigma, **extra_args), schedule, callback)
        made.append(loop(denoise, denoise.on_step))
        return x

    levels = schedule.sigmas[[*schedule.timesteps(steps), 0]]
    guider.sample(empty, empty, comfy.samplers.KSAMPLER(sampling_function), levels, disable_pbar=True)
    return made[0]


class _Predicted:
    """The core's ``Denoise`` of a model as ComfyUI's samplers have it, which predicts z_0."""

    def __init__(
        self, predict: Callable[[Tensor, Tensor], Tensor], schedule: GivenSchedule, callback: Callback
    ) -> None:
        self.predict, self.schedule, self.callback = predict, schedule, callback
        self.step: Step | None = None  # that nothing was told of yet

    def on_step(self, step: Step) -> None:
        self.step = step

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        noisy = self.schedule.exploding(latents, timestep).flatten(0, 1)
        clean = self.predict(noisy, self.schedule.sigmas[timestep].to(noisy.device).expand(len(noisy)))
        if self.step is not None:
            self.callback(self.step.index, clean, noisy, self.step.total)
            self.step = None
        return self.schedule.output(clean.reshape(latents.shape), latents, timestep)
