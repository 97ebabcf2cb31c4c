"""Sampling all rows of a picture together, and harmonising what came of it."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sample
import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.config import HarmonizationConfig
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.sampling import initial_noise
from .checks import check_range, told
from .comfy_model.harmonize import check_trajectory, harmonize
from .comfy_model.layered_sampling import run_sigmas, sample_run
from .comfy_model.previews import step_callback
from .documents import stacks_from_layers
from .row_values import CFGS, DENOISES, SEEDS
from .shared_inputs import HarmonizingNode, harmonization_inputs, run_inputs
from .sockets import LAYERS_KEY, LatentLayers, SampledTrajectory, TrajectorySocket, latent_layers

__all__ = ["NODES", "check_rows"]

_CATEGORY = "DreamLayer/sampling"


class LayeredKSampler(io.ComfyNode):
    """KSampler that knows of layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerSampler",
            display_name="Layered KSampler (DreamLayer)",
            category=_CATEGORY,
            description="KSampler for layered latents: seeds for single layers, a preview of all of them, the context "
                        "maps, and the trajectory that Harmonize needs.",
            search_aliases=["dreamlayer", "ksampler", "sample layers"],
            inputs=[
                *run_inputs(),
                io.Latent.Input("latent_image", tooltip="From Empty Layered Latent or Encode RGBA Layers."),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                               tooltip="Less than 1 keeps that much of the latent that comes in."),
                io.String.Input("layer_seeds", default="", optional=True,
                                tooltip="Seeds of single rows, such as '2: 17' to try another second foreground: 0 is the "
                                        "background, 1 the first foreground, the last row the whole picture."),
                io.String.Input("layer_cfg", default="", optional=True,
                                tooltip="CFG of single rows, such as '2: 7.5, 3: 4'; the others take cfg. Rows as for the seeds."),
                io.String.Input("layer_denoise", default="", optional=True,
                                tooltip="Denoise of single rows, such as '1: 0.5, 2: 0'; the others take denoise, which none "
                                        "may exceed. 0 keeps a row of the latent as it is, and the others see it."),
                io.Float.Input("guidance_start", default=0.0, min=0.0, max=1.0, step=0.001, optional=True, advanced=True,
                               tooltip="CFG acts from this share of the sampling on. Steps before take half the time."),
                io.Float.Input("guidance_end", default=1.0, min=0.0, max=1.0, step=0.001, optional=True, advanced=True,
                               tooltip="CFG acts up to this share of the sampling. Steps after take half the time."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="layered latent", tooltip="For Decode Layers."),
                TrajectorySocket.Output("trajectory", display_name="trajectory", tooltip="For Harmonize."),
                io.Image.Output("context_maps", display_name="context maps",
                                tooltip="Where the whole picture has each foreground: one picture for each, black without CACA."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, layer_seeds: str | None = "", layer_cfg: str | None = "", layer_denoise: str | None = "",
        guidance_start: float | None = 0.0, guidance_end: float | None = 1.0,
    ) -> bool | str:
        def check() -> None:
            for kind, text in ((SEEDS, layer_seeds), (CFGS, layer_cfg), (DENOISES, layer_denoise)):
                kind.parse(text or "")
            if guidance_start is not None and guidance_end is not None:
                check_range(guidance_start, guidance_end)

        return told(check)

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str,
        positive: list[Any], negative: list[Any], latent_image: dict[str, Any], denoise: float = 1.0, layer_seeds: str = "",
        layer_cfg: str = "", layer_denoise: str = "", guidance_start: float = 0.0, guidance_end: float = 1.0,
    ) -> io.NodeOutput:
        layers = latent_layers(latent_image)
        check_rows(positive, layers)
        check_range(guidance_start, guidance_end)
        start = comfy.sample.fix_empty_latent_channels(
            model, latent_image["samples"], latent_image.get("downscale_ratio_spacial"))
        sigmas = run_sigmas(model, sampler_name, scheduler, steps, denoise)
        if len(sigmas) < 2:
            raise InputError(f"got a denoise of {denoise}, which leaves nothing to sample; give more than 0")
        noise = initial_noise(
            (layers.rows, *start.shape[1:]), seed, SEEDS.parse(layer_seeds, layers.rows),
            stacks=len(start) // layers.rows).flatten(0, 1)
        run = SampledTrajectory(
            latents=(), sigmas=sigmas, rows=layers.rows, positive=positive, negative=negative, cfg=cfg, sampler=sampler_name,
            seed=seed, layers=layers, start=latent_image | {"samples": start}, denoise=denoise,
            layer_cfg=CFGS.parse(layer_cfg, layers.rows), guidance_range=(guidance_start, guidance_end))
        return io.NodeOutput(*sample_run(model, run, noise, strengths=DENOISES.parse(layer_denoise, layers.rows)))


def check_rows(positive: list[Any], layers: LatentLayers, source: str = "Empty Layered Latent") -> None:
    """Raises InputError for conditioning that is not layered, or of another number of rows than the latent of ``source``."""
    for _, extra in positive:
        embedding = extra.get(LAYERS_KEY)
        if embedding is None:
            raise InputError("got conditioning that is not layered; connect Encode Layers to positive")
        if len(embedding.embeddings) != layers.rows:
            raise InputError(
                f"got prompts for {len(embedding.embeddings) - 1} layers and a latent for {layers.rows - 1}; give Encode "
                f"Layers and {source} the same plan")


class Harmonize(HarmonizingNode):
    """One coherent picture from the layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerHarmonize",
            display_name="Harmonize Layers (DreamLayer)",
            category=_CATEGORY,
            description="Samples the picture once more from half way, laying the foregrounds over the background while it "
                        "does: shadows, contact and light appear that no single layer has.",
            search_aliases=["dreamlayer", "harmonise", "shadow", "blend", "IRH"],
            inputs=[
                io.Model.Input("model", tooltip="The same model as in Layered KSampler."),
                TrajectorySocket.Input("trajectory", tooltip="From Layered KSampler."),
                io.Layers.Input("layers", tooltip="From Decode Layers, edited or not: their alphas say where the foregrounds are."),
                *harmonization_inputs(),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent", tooltip="The whole picture, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, trajectory: SampledTrajectory, layers: dict[str, Any], high: int = 600,
        low: int = 400, strength: float = 1.0,
    ) -> io.NodeOutput:
        check_trajectory(trajectory)
        alphas = _alphas(layers, trajectory, model.model.latent_format.spacial_downscale_ratio)
        samples = harmonize(
            model, trajectory, alphas, HarmonizationConfig(high=high, low=low), strength,
            step_callback(model, len(trajectory.sigmas) - 1))
        return io.NodeOutput({"samples": samples.cpu()})


def _alphas(document: dict[str, Any], trajectory: SampledTrajectory, scale: int) -> Tensor:
    """(stacks, fg, 1, H, W) of the foregrounds, on the whole latent's area."""
    stacks = stacks_from_layers(document)
    wanted, found = trajectory.rows - 2, [len(stack.foregrounds) for stack in stacks]
    pictures = len(trajectory.latents[0]) // trajectory.rows
    if len(stacks) != pictures or any(count != wanted for count in found):
        raise InputError(
            f"got {len(stacks)} pictures of {found} foregrounds for a trajectory of {pictures} with {wanted}; connect the "
            "layers that Decode Layers made of the same sampling")
    height, width = (side * scale for side in trajectory.latents[0].shape[-2:])
    return torch.stack([
        torch.stack([layer.on_canvas(width, height).alpha for layer in stack.foregrounds]) for stack in stacks])


NODES: list[type[io.ComfyNode]] = [LayeredKSampler, Harmonize]
