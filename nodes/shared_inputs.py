"""Inputs that several nodes have alike."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..dreamlayer_core.config import HarmonizationConfig
from .checks import told

__all__ = ["HarmonizingNode", "harmonization_inputs", "run_inputs"]


def run_inputs() -> list[io.Input]:
    """How a layered latent is sampled, up to its conditionings."""
    return [
        io.Model.Input("model", tooltip="From Patch Model."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                     tooltip="Of the noise of all rows."),
        io.Int.Input("steps", default=50, min=1, max=1000, tooltip="The paper takes 50."),
        io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01,
                       tooltip="Classifier-free guidance: how closely to follow the prompts."),
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="ddim",
                       tooltip="Any of ComfyUI's; the paper takes DDIM."),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="ddim_uniform",
                       tooltip="How the noise levels are spaced; the paper's is ddim_uniform."),
        io.Conditioning.Input("positive", tooltip="From Encode Layers."),
        io.Conditioning.Input("negative", tooltip="From Encode Layers."),
    ]


def harmonization_inputs() -> list[io.Input]:
    """How layers are fused."""
    return [
        io.Int.Input("high", default=600, min=0, max=1000, tooltip="T_H: fusing starts at this timestep. The paper: 600."),
        io.Int.Input("low", default=400, min=0, max=1000,
                     tooltip="T'_H: fusing ends here, and the model paints freely below. The paper: 400."),
        io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                       tooltip="1 as in the paper; less lets the picture drift from the layers."),
    ]


class HarmonizingNode(io.ComfyNode):
    """A node with `harmonization_inputs`."""

    @classmethod
    def validate_inputs(cls, high: int | None = None, low: int | None = None) -> bool | str:
        if high is None or low is None:
            return True  # one comes from another node: it is known when that has run
        return told(lambda: HarmonizationConfig(high=high, low=low))
