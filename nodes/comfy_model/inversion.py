"""Inverting pictures and taking them apart (App. E) with a MODEL: the core's loops, under the model's own conditioning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.model_patcher
import torch
from torch import Tensor

from ...dreamlayer_core.config import InversionConfig
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.inversion import Inversion, invert, joint_mask, sample_back
from ...dreamlayer_core.sampling import Denoise, OnStep
from ...dreamlayer_core.schedule import GivenSchedule
from ..sockets import LAYERS_KEY, InvertedPicture, LatentLayers, SampledTrajectory
from .denoise import model_schedule, run_loop
from .layer_patch import MASK_KEY, MapSink
from .layered_sampling import map_pictures
from .previews import step_callback

__all__ = ["invert_latents", "inverted_samples", "sample_layers_back"]


def invert_latents(
    model: comfy.model_patcher.ModelPatcher, positive: list[Any], negative: list[Any], samples: Tensor, layers: LatentLayers,
    steps: int, config: InversionConfig,
) -> InvertedPicture:
    """LATENT values (stacks, c, h, w) of pictures, taken back to noise in every row under the prompts of that row."""
    schedule, masked = model_schedule(model), model.clone()
    masked.model_options["transformer_options"][MASK_KEY] = joint_mask(config, torch.device("cpu"))
    clean = model.model.process_latent_in(samples)[:, None].expand(-1, layers.rows, -1, -1, -1)
    found: list[Inversion] = []

    def loop(denoise: Denoise, on_step: OnStep) -> Tensor:
        found.append(invert(denoise, clean.to(model.load_device), schedule, steps, config, on_step=on_step))
        return found[0].noise

    run_loop(masked, positive, negative, config.guidance, clean.shape, steps, loop, step_callback(model, steps))
    return InvertedPicture(inversion=found[0].to("cpu"), layers=layers)


def inverted_samples(model: comfy.model_patcher.ModelPatcher, inversion: Inversion) -> Tensor:
    """The noise of an inversion as LATENT values ((stacks rows), c, h, w), for samplers that add none."""
    schedule = model_schedule(model)
    (noise,) = _exploding(schedule, inversion.trajectory.latents, schedule.timesteps(inversion.steps)[:1])
    return model.model.process_latent_out(noise)


def sample_layers_back(
    model: comfy.model_patcher.ModelPatcher, positive: list[Any], negative: list[Any], picture: InvertedPicture, cfg: float
) -> tuple[SampledTrajectory, Tensor]:
    """Layers sampled from the noise of an inversion, as its method wants it: the run with its ``final`` LATENT values, and
    the context maps as IMAGE. InputError for a model of other noise levels.
    """
    inversion, layers = picture.inversion, picture.layers
    schedule = model_schedule(model)
    if not torch.equal(schedule.alphas_cumprod, inversion.schedule.alphas_cumprod):
        raise InputError("got an inversion by a model of other noise levels; give Invert Image and Decompose the same model")
    sink, kept, model = MapSink(), dict[int, Tensor](), model.clone()
    model.model_options["transformer_options"]["dreamlayer_sink"] = sink

    def loop(denoise: Denoise, on_step: OnStep) -> Tensor:
        latents, trajectory = sample_back(denoise, inversion.to(model.load_device), keep_all=True, on_step=on_step)
        kept.update(trajectory.latents)
        return latents

    steps = inversion.steps
    found = run_loop(
        model, positive, negative, cfg, inversion.noise.shape, steps, loop, step_callback(model, steps)).flatten(0, 1)
    timesteps, final = schedule.timesteps(steps), model.model.process_latent_out(found).cpu()
    run = SampledTrajectory(
        latents=_exploding(schedule, kept, timesteps), sigmas=torch.cat([schedule.sigmas[timesteps], torch.zeros(1)]),
        rows=layers.rows, positive=positive, negative=negative, cfg=cfg, sampler="ddim", seed=0, layers=layers, final=final,
        start={"samples": torch.zeros_like(final), LAYERS_KEY: layers})
    return run, map_pictures(model, sink.maps, final, layers)


def _exploding(schedule: GivenSchedule, latents: Mapping[int, Tensor], timesteps: Iterable[int]) -> tuple[Tensor, ...]:
    """z_t at timesteps as ComfyUI's samplers have them, ((stacks rows), c, h, w), on the CPU."""
    return tuple(schedule.exploding(latents[t], t).flatten(0, 1).cpu() for t in timesteps)
