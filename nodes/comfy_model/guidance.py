"""Classifier-free guidance of every row by itself, and in a part of the sampling alone, with any of ComfyUI's samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch
from torch import Tensor

from ..sockets import LAYERS_KEY, SampledTrajectory

__all__ = ["guided_model", "row_cfgs"]

_CFG_FUNCTION = "sampler_cfg_function"


def row_cfgs(run: SampledTrajectory, rows: Sequence[int]) -> list[float]:
    """The CFG that a run gives to each of these rows of the picture."""
    return [run.layer_cfg.get(row, run.cfg) for row in rows]


def guided_model(
    model: comfy.model_patcher.ModelPatcher, run: SampledTrajectory, cfgs: Sequence[float]
) -> comfy.model_patcher.ModelPatcher:
    """The MODEL for pictures whose rows have these CFGs, guided where the run says; itself where one CFG says it all, with
    which it is to be sampled then.
    """
    start, end = run.guidance_range
    if len(set(cfgs)) == 1 and (start, end) == (0, 1):
        return model
    percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    rows = _RowGuidance(
        cfgs=tuple(cfgs), start_sigma=float(percent_to_sigma(start)), end_sigma=float(percent_to_sigma(end)))
    guided = model.clone()
    guided.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, LAYERS_KEY, rows.predict_noise)
    return guided


@dataclass(frozen=True, kw_only=True)
class _RowGuidance:
    """Guidance between two noise levels, of rows with a CFG each."""

    cfgs: tuple[float, ...]
    start_sigma: float
    end_sigma: float

    def predict_noise(
        self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: int | None = None
    ) -> Tensor:
        """PREDICT_NOISE wrapper of a CFGGuider. A CFG of 1 is ComfyUI's own way to leave out the negative conditioning."""
        if not self.end_sigma <= float(timestep.flatten()[0]) <= self.start_sigma:
            guider = executor.class_obj
            cfg, guider.cfg = guider.cfg, 1.0
            try:
                return executor(x, timestep, model_options, seed)
            finally:
                guider.cfg = cfg
        if len(set(self.cfgs)) > 1:
            by_row = self._by_row(model_options.get(_CFG_FUNCTION, _guide))
            model_options = {**model_options, _CFG_FUNCTION: by_row, "disable_cfg1_optimization": True}
        return executor(x, timestep, model_options, seed)

    def _by_row(self, function: Callable[[dict[str, Any]], Tensor]) -> Callable[[dict[str, Any]], Tensor]:
        """What ``function``, another node's or ComfyUI's own, makes of every row with the CFG of that row."""
        def guide(args: dict[str, Any]) -> Tensor:
            found = {cfg: function({**args, "cond_scale": cfg}) for cfg in set(self.cfgs)}
            whole = torch.empty_like(found[self.cfgs[0]])
            for row, cfg in enumerate(self.cfgs):
                whole[row :: len(self.cfgs)] = found[cfg][row :: len(self.cfgs)]
            return whole

        return guide


def _guide(args: dict[str, Any]) -> Tensor:
    """As ComfyUI guides where no node has a function of its own."""
    return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"]
