"""From layers with alpha back to layered latents."""

from __future__ import annotations

from typing import Any

import comfy.sd
import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn import functional

from ..dreamlayer_core.composite import flatten, gray_fill
from ..dreamlayer_core.config import LARGEST_SIDE
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import LayerStack
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS, LayerPrompts
from .documents import image_from_pictures, stacks_from_layers
from .sockets import LAYERS_KEY, LatentLayers, LayerPlan, PlanSocket

__all__ = ["NODES", "encode_pictures"]

_DEEPEST = 8  # the deepest stage of the UNets is 8 times smaller than the latent


class EncodeRgbaLayers(io.ComfyNode):
    """Layers as layered latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerEncodeLayers",
            display_name="Encode RGBA Layers (DreamLayer)",
            category="DreamLayer",
            description="Your own layers as a layered latent: the lowest is the background, the others are filled with gray "
                        "where they are transparent, as the model knows them; the whole picture is their composite. Sample "
                        "it with less than full denoise to repaint all layers together.",
            search_aliases=["dreamlayer", "vae encode", "img2img", "rgba to latent"],
            inputs=[
                io.Vae.Input("vae", tooltip="The autoencoder of the base model."),
                io.Layers.Input("layers", tooltip="The lowest layer is the background, the others the foregrounds. From "
                                                  "Load Layers, Image Batch to Layers or Decode Layers."),
                PlanSocket.Input("plan", optional=True, tooltip="Prompts and names for them, one foreground each."),
            ],
            outputs=[io.Latent.Output("latent", display_name="layered latent", tooltip="For Layered KSampler.")],
        )

    @classmethod
    def execute(cls, vae: comfy.sd.VAE, layers: dict[str, Any], plan: LayerPlan | None = None) -> io.NodeOutput:
        stacks = stacks_from_layers(layers)
        rows = _rows(stacks, plan)
        pictures = torch.cat([_pictures(stack) for stack in stacks])
        about = LatentLayers(
            plan=plan or _own_plan(stacks[0]), rows=rows, width=stacks[0].width, height=stacks[0].height)
        return io.NodeOutput({"samples": encode_pictures(vae, pictures), LAYERS_KEY: about})


def encode_pictures(vae: comfy.sd.VAE, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) as LATENT values, padded to whole cells of the UNet's deepest stage."""
    multiple = vae.spacial_compression_decode() * _DEEPEST
    right, below = (-side % multiple for side in (pictures.shape[-1], pictures.shape[-2]))
    return vae.encode(image_from_pictures(functional.pad(pictures, (0, right, 0, below), mode="replicate")))


def _rows(stacks: list[LayerStack], plan: LayerPlan | None) -> int:
    width, height, count = stacks[0].width, stacks[0].height, len(stacks[0].foregrounds)
    if max(width, height) > LARGEST_SIDE:
        raise InputError(
            f"got layers on a canvas of {width}x{height}; give sides of at most {LARGEST_SIDE} pixels, or scale them down")
    if not 1 <= count <= MAX_FOREGROUNDS:
        raise InputError(f"got {count} foreground layers over the lowest one; give 1 to {MAX_FOREGROUNDS}")
    if plan is not None and plan.rows != count + 2:
        raise InputError(f"got {count} foreground layers and a plan for {plan.rows - 2}; give Layer Prompts as many")
    return count + 2


def _own_plan(stack: LayerStack) -> LayerPlan:
    """The names and prompts that the layers bring."""
    background, *foregrounds = stack.layers
    prompts = LayerPrompts(
        background.prompt, tuple(layer.prompt for layer in foregrounds), whole=stack.global_prompt)
    names = tuple(layer.name for layer in foregrounds)
    return LayerPlan(prompts=prompts, names=names, weights=(1.0,) * len(names))


def _pictures(stack: LayerStack) -> Tensor:
    """Background, foregrounds on gray and the whole (rows, 3, H, W)."""
    full = [layer.on_canvas(stack.width, stack.height) for layer in stack.layers]
    return torch.stack([*(gray_fill(layer.color, layer.alpha) for layer in full), flatten(stack)])


NODES: list[type[io.ComfyNode]] = [EncodeRgbaLayers]
