"""One sampling run of a layered latent with what is kept of it, and where some rows are replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from ...dreamlayer_core.attention.shared import resize_map
from ..sockets import LAYERS_KEY, LatentLayers, SampledTrajectory
from .guidance import guided_model, row_cfgs
from .harmonize import Recorder
from .layer_patch import MapSink
from .previews import step_callback
from .replay import RowReplay, RowStarts

__all__ = ["map_pictures", "run_sigmas", "sample_run"]


def run_sigmas(
    model: comfy.model_patcher.ModelPatcher, sampler: str, scheduler: str, steps: int, denoise: float = 1.0
) -> Tensor:
    """The noise levels of KSampler, descending, the end of the last step included."""
    return comfy.samplers.KSampler(
        model, steps=steps, device=model.load_device, sampler=sampler, scheduler=scheduler, denoise=denoise,
        model_options=model.model_options).sigmas


def sample_run(
    model: comfy.model_patcher.ModelPatcher, run: SampledTrajectory, noise: Tensor, replay: RowReplay | None = None,
    strengths: Mapping[int, float] | None = None,
) -> tuple[dict[str, Any], SampledTrajectory, Tensor]:
    """Sample all rows as ``run`` says, whose ``start`` is known: the layered LATENT, the run with what was kept of it, and
    the context maps as IMAGE (stacks * fg, H, W, 3).

    ``noise`` ((stacks rows), c, h, w); ``strengths`` are of rows with another denoise than the run's. Raises InputError for a
    replay or strengths that do not fit.
    """
    assert run.start is not None
    starts = RowStarts.of(model, run, noise, strengths) if strengths else None
    cfgs = row_cfgs(run, range(run.rows))
    sink, recorder, model = MapSink(), Recorder(run.sigmas), guided_model(model, run, cfgs).clone()
    model.model_options["transformer_options"]["dreamlayer_sink"] = sink
    sampler, wrappers = comfy.samplers.sampler_object(run.sampler), [recorder.predict_noise]
    if replay is not None:
        replay.check(noise)
        sampler, wrappers = replay.starting(sampler), [replay.following(), *wrappers]
    if starts is not None:
        sampler, wrappers = starts.starting(sampler), [starts.following(), *wrappers]
    for wrapper in wrappers:
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, LAYERS_KEY, wrapper)
    samples = comfy.samplers.sample(
        model, noise, run.positive, run.negative, cfgs[0] if len(set(cfgs)) == 1 else run.cfg, model.load_device, sampler,
        run.sigmas, model.model_options,
        latent_image=run.start["samples"], denoise_mask=run.start.get("noise_mask"),
        callback=step_callback(model, len(run.sigmas) - 1), disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=run.seed)
    samples = samples.cpu()
    for rows in (replay, starts):
        samples = samples if rows is None else rows.ended(samples)
    latent = {k: v for k, v in run.start.items() if not k.startswith("downscale_ratio")}
    latents = recorder.trajectory()
    kept = replace(
        run, latents=latents, sigmas=run.sigmas.cpu(), between=recorder.between() if latents else {}, final=samples)
    return (latent | {"samples": samples, LAYERS_KEY: run.layers}, kept,
            map_pictures(model, sink.maps, noise, run.layers))


def map_pictures(
    model: comfy.model_patcher.ModelPatcher, maps: Tensor | None, latents: Tensor, layers: LatentLayers
) -> Tensor:
    """Context maps (stacks, fg, h, w) over latents ((stacks rows), c, h, w) as gray IMAGEs (stacks * fg, H, W, 3) of the
    picture, which its latent may reach beyond."""
    if maps is None:
        return torch.zeros(len(latents) // layers.rows * (layers.rows - 2), layers.height, layers.width, 3)
    height, width = (side * model.model.latent_format.spacial_downscale_ratio for side in latents.shape[-2:])
    large = resize_map(maps.float().cpu(), (height, width))[..., : layers.height, : layers.width]
    return rearrange(large, "stack fg h w -> (stack fg) h w 1").expand(-1, -1, -1, 3)
