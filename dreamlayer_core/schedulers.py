"""Sampling methods by name: DDIM as the paper has it, and diffusers' own, which start at the noisiest timestep of all.

    ddim             App. B: "leading" timesteps, which fall short of the last; under 7 steps they never reach T_G
    ddim-trailing    the same method from the last timestep on (Lin et al. 2023): few steps
    euler            Euler's (Karras et al. 2022): few steps, SD-Turbo's and Lightning's weights
    euler-ancestral  the same with noise at every step
    dpm++            second-order DPM-Solver++ (Lu et al. 2022)
    lcm              multistep consistency sampling (Luo et al. 2023): for weights or LoRAs distilled for it
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .config import SamplingConfig, SchedulerName
from .sampling import DdimStepper, DiffusersStepper, Stepper
from .schedule import NoiseSchedule

__all__ = ["stepper_for"]

_CLASSES: Mapping[SchedulerName, tuple[str, Mapping[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "dpm++": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    "lcm": ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
}


def stepper_for(sampling: SamplingConfig, schedule: NoiseSchedule, seed: int = 0) -> Stepper:
    """The sampling method that ``sampling`` names, on a model's schedule.

    ``seed`` is of the noise that "euler-ancestral" and "lcm" add at every step; it is one drawing for all rows.
    Raises InputError for more steps than a method takes.
    """
    if sampling.scheduler in ("ddim", "ddim-trailing"):
        return DdimStepper(schedule, sampling.steps, "leading" if sampling.scheduler == "ddim" else "trailing")
    return DiffusersStepper(_maker(sampling.scheduler, schedule), sampling.steps, torch.Generator().manual_seed(seed))


def _maker(name: SchedulerName, schedule: NoiseSchedule) -> Callable[[], Any]:
    kind, options = _CLASSES[name]
    scheduler = getattr(importlib.import_module("diffusers"), kind)  # not there inside ComfyUI, which samples itself
    return lambda: scheduler(
        num_train_timesteps=schedule.train_steps, beta_start=schedule.beta_start, beta_end=schedule.beta_end,
        beta_schedule="scaled_linear", prediction_type=schedule.prediction_type, rescale_betas_zero_snr=schedule.zero_snr, **options)
