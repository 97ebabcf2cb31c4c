"""An image prompt on rows of a MODEL: the core's additions, told by ComfyUI's options what the UNet is called for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import comfy.model_patcher
from torch import Tensor, nn

from ...dreamlayer_core.image_prompts import ImagePrompt, image_additions
from ...dreamlayer_core.layer_run import Half
from ...dreamlayer_core.row_weights import Additions, Rows
from .row_patch import RowCall, patch_rows

__all__ = ["patch_image_prompt"]


def patch_image_prompt(
    model: comfy.model_patcher.ModelPatcher, prompt: ImagePrompt, rows: Rows, *, strength: float = 1.0,
    start_percent: float = 0.0, end_percent: float = 1.0,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of ``model`` with it. Raises as `patch_rows` and `image_additions` do."""
    sampling = model.get_model_object("model_sampling")
    first, last = (float(sampling.percent_to_sigma(percent)) for percent in (start_percent, end_percent))

    def source(modules: Mapping[str, nn.Module], call: RowCall) -> Additions:
        return image_additions(modules, prompt, rows, strength=strength, halves=_Halves(call, first, last))

    return patch_rows(model, source, first=True)


class _Halves:
    """Those of the call in progress; None for noise levels beyond the range."""

    def __init__(self, call: RowCall, first: float, last: float) -> None:
        self.call, self.first, self.last = call, first, last
        self.sigmas: Tensor | None = None  # of the newest call: looking at them waits for the device
        self.acts = False

    def __call__(self) -> Sequence[Half] | None:
        options = self.call.options
        if options["sigmas"] is not self.sigmas:
            self.sigmas = options["sigmas"]
            self.acts = self.last <= float(options["sigmas"].flatten()[0]) <= self.first
        if not self.acts:
            return None
        return ["conditional" if side == 0 else "unconditional" for side in options["cond_or_uncond"]]
