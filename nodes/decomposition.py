"""From a picture to layers: inverted under the layers' prompts, then sampled as layers from that noise."""

from __future__ import annotations

from typing import Any, get_args

import comfy.model_patcher
import comfy.sd
import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.composite import white_fill
from ..dreamlayer_core.config import InversionConfig, InversionMethod, SamplingConfig, check_size
from ..dreamlayer_core.inversion import check_steps
from .checks import told
from .comfy_model.inversion import invert_latents, inverted_samples, sample_layers_back
from .documents import item_pixels
from .encoding import encode_pictures
from .sampling import check_rows
from .sockets import (
    LAYERS_KEY,
    InversionSocket,
    InvertedPicture,
    LatentLayers,
    LayerPlan,
    PlanSocket,
    TrajectorySocket,
)

__all__ = ["NODES"]

_CATEGORY = "DreamLayer/sampling"
_METHODS = [InversionConfig.method, *(name for name in get_args(InversionMethod) if name != InversionConfig.method)]


class InvertImage(io.ComfyNode):
    """A picture back to the noise that it would be sampled from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerInvertImage",
            display_name="Invert Image (DreamLayer)",
            category=_CATEGORY,
            description="Takes a picture back to noise, once for every layer under its own prompt, with the layers hidden from the "
                        "whole picture meanwhile. From there Decompose samples the layers that the picture is made of. Any "
                        "size works: it is padded inside and cropped when decoded.",
            search_aliases=["dreamlayer", "image to layers", "ddim inversion", "unsampler", "reverse sampling", "noise from image"],
            inputs=[
                io.Model.Input("model", tooltip="From Patch Model."),
                io.Vae.Input("vae", tooltip="The autoencoder of the base model."),
                io.Image.Input("image", tooltip="The picture. Of a batch, each is taken apart by the same prompts. What is "
                                                "transparent counts as white."),
                PlanSocket.Input("plan", tooltip="From Layer Prompts: what the picture is made of, the lowest layer first."),
                io.Conditioning.Input("positive", tooltip="From Encode Layers, with the same plan."),
                io.Conditioning.Input("negative", tooltip="From Encode Layers. Without effect at a CFG of 1."),
                io.Combo.Input("method", options=_METHODS, default=InversionConfig.method,
                               tooltip="replay: the whole picture follows its own way back, and never leaves the picture. exact: "
                                       "BDIA, which can be undone step by step. fixed-point: DDIM, iterated. ddim: quickest, and "
                                       "it drifts."),
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Of the inversion, and of Decompose."),
                io.Float.Input("cfg", default=InversionConfig.guidance, min=0.0, max=100.0, step=0.1, round=0.01,
                               tooltip="Guidance while inverting. 1 is none: more adds its errors up."),
                io.Boolean.Input("masked", default=InversionConfig.masked,
                                 tooltip="Hide the layers from the whole picture while inverting (Eq. 14-16). Without it "
                                         "foregrounds stay in the background."),
                io.Combo.Input("mask_queries", options=["all", "global"], default=InversionConfig.mask_queries, advanced=True,
                               tooltip="Whom the layers are hidden from: all rows, as the paper writes it, or the whole picture "
                                       "alone."),
                io.Int.Input("iterations", default=InversionConfig.iterations, min=1, max=1000, advanced=True,
                             tooltip="At most so many for a step of fixed-point, and for the first one of exact."),
                io.Float.Input("tolerance", default=InversionConfig.tolerance, min=0.0, max=0.9, step=1e-7, round=False,
                               advanced=True, tooltip="A fixed point is found when it changes by no more than this share."),
                io.Float.Input("gamma", default=InversionConfig.gamma, min=0.5, max=1.0, step=0.01, advanced=True,
                               tooltip="Of exact. 1 is undone to the last bit; less is calmer, and rounds."),
            ],
            outputs=[
                InversionSocket.Output("inversion", display_name="inversion", tooltip="For Decompose."),
                io.Latent.Output("latent", display_name="noise",
                                 tooltip="The noise of all rows, as a layered latent for samplers that add none, such as "
                                         "SamplerCustomAdvanced with DisableNoise."),
            ],
        )

    @classmethod
    def validate_inputs(cls, method: Any = None, steps: int | None = None) -> bool | str:
        if method is None or steps is None:
            return True  # one comes from another node: it is known when that has run
        return told(lambda: check_steps(InversionConfig(method=method), SamplingConfig(steps=steps).steps))

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE, image: Tensor, plan: LayerPlan, positive: list[Any],
        negative: list[Any], method: InversionMethod = "replay", steps: int = 50, cfg: float = 1.0, masked: bool = True,
        mask_queries: Any = "all", iterations: int = 30, tolerance: float = 1e-6, gamma: float = 1.0,
    ) -> io.NodeOutput:
        config = InversionConfig(
            method=method, guidance=cfg, masked=masked, mask_queries=mask_queries, iterations=iterations, tolerance=tolerance,
            gamma=gamma)
        check_steps(config, steps)
        pictures = white_fill(*item_pixels({"name": "image", "image": image}))
        height, width = pictures.shape[-2:]
        check_size(width, height)
        layers = LatentLayers(plan=plan, rows=plan.rows, width=width, height=height)
        check_rows(positive, layers, source="Invert Image")
        samples = torch.cat([encode_pictures(vae, one[None]) for one in pictures])
        found = invert_latents(model, positive, negative, samples, layers, steps, config)
        return io.NodeOutput(found, {"samples": inverted_samples(model, found.inversion), LAYERS_KEY: layers})


class Decompose(io.ComfyNode):
    """Layers from an inverted picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerDecompose",
            display_name="Decompose (DreamLayer)",
            category=_CATEGORY,
            description="Samples the layers of an inverted picture, with the steps and the method of its inversion: the layers "
                        "see each other and the whole picture, which stays the one that went in.",
            search_aliases=["dreamlayer", "image to layers", "decompose image", "split image", "layer separation", "extract objects"],
            inputs=[
                io.Model.Input("model", tooltip="From Patch Model: the same as for Invert Image."),
                io.Conditioning.Input("positive", tooltip="From Encode Layers."),
                io.Conditioning.Input("negative", tooltip="From Encode Layers."),
                InversionSocket.Input("inversion", tooltip="From Invert Image."),
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01,
                               tooltip="Classifier-free guidance: how closely the layers follow their prompts."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="layered latent", tooltip="For Decode Layers."),
                TrajectorySocket.Output("trajectory", display_name="trajectory", tooltip="For Harmonize Layers, and to change single layers."),
                io.Image.Output("context_maps", display_name="context maps",
                                tooltip="Where the picture has each foreground: one picture for each, black without CACA."),
            ],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, positive: list[Any], negative: list[Any], inversion: InvertedPicture,
        cfg: float = 5.0,
    ) -> io.NodeOutput:
        check_rows(positive, inversion.layers, source="Invert Image")
        run, maps = sample_layers_back(model, positive, negative, inversion, cfg)
        return io.NodeOutput({"samples": run.final, LAYERS_KEY: inversion.layers}, run, maps)


NODES: list[type[io.ComfyNode]] = [InvertImage, Decompose]
