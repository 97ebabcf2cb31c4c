"""From layered latents to layers with alpha."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io
from einops import rearrange
from torch import Tensor

from ..dreamlayer_core.composite import clean_layer, flatten
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import Layer, LayerStack
from ..dreamlayer_core.transparent import VIEWS
from .documents import image_from_pictures, layers_from_stacks
from .sockets import DecoderSocket, LatentLayers, LoadedDecoder, latent_layers

__all__ = ["NODES"]


class DecodeLayers(io.ComfyNode):
    """Layers with alpha, in ComfyUI's own layer document and as pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerDecode",
            display_name="Decode Layers (DreamLayer)",
            category="DreamLayer",
            description="Decodes every row and finds the alpha of the foregrounds. The layers go into Create Layered Image, "
                        "ComfyUI's own layer editor, into Save Layers, and into Harmonize.",
            search_aliases=["dreamlayer", "vae decode", "layer diffuse decode", "rgba", "transparent"],
            inputs=[
                io.Vae.Input("vae", tooltip="The autoencoder of the base model."),
                DecoderSocket.Input("decoder", tooltip="From Load Layer Decoder, made for this autoencoder."),
                io.Latent.Input("samples", tooltip="A layered latent, from Layered KSampler or any other sampler."),
                io.Combo.Input("views", options=[str(count) for count in VIEWS], default="8",
                               tooltip="How many turned and mirrored views the alpha is the median of: more are cleaner, "
                                       "fewer are faster."),
            ],
            outputs=[
                io.Layers.Output("layers", display_name="layers", tooltip="Named, cropped to their boxes, bottom to top."),
                io.Image.Output("images", display_name="RGBA images",
                                tooltip="Every layer on the full canvas with its alpha, bottom to top."),
                io.Mask.Output("masks", display_name="masks", tooltip="Of the same layers: 1 where they are transparent."),
                io.Image.Output("composite", display_name="composite",
                                tooltip="The layers laid over each other in sRGB (Eq. 1), without shadows between them."),
                io.Image.Output("whole", display_name="whole picture",
                                tooltip="The whole picture as it was sampled beside the layers."),
            ],
        )

    @classmethod
    def execute(cls, vae: comfy.sd.VAE, decoder: LoadedDecoder, samples: dict[str, Any], views: str = "8") -> io.NodeOutput:
        layers, latents = latent_layers(samples), samples["samples"]
        scale = vae.spacial_compression_decode()
        if decoder.latent_scale != scale:
            raise InputError(
                f"got a layer decoder for {decoder.latent_scale} pixels per latent cell and a VAE with {scale}; load the "
                "decoder that was made for this VAE")
        pictures = rearrange(vae.decode(latents), "n h w c -> n c h w").cpu().float()
        rgba = _foregrounds(decoder, pictures, latents, layers, int(views))
        crop = (..., slice(0, layers.height), slice(0, layers.width))
        pictures = pictures.unflatten(0, (-1, layers.rows))[crop]
        stacks = [_stack(*one, layers) for one in zip(pictures, rgba[crop], strict=True)]
        images = torch.cat([torch.stack([layer.rgba for layer in stack.layers]) for stack in stacks])
        return io.NodeOutput(
            layers_from_stacks(stacks), image_from_pictures(images), 1 - images[:, 3],
            image_from_pictures(torch.stack([flatten(stack) for stack in stacks])), image_from_pictures(pictures[:, -1]))


def _foregrounds(
    decoder: LoadedDecoder, pictures: Tensor, latents: Tensor, layers: LatentLayers, views: int
) -> Tensor:
    """RGBA of the foregrounds (stacks, fg, 4, H, W), one at a time: decoding sets the peak of memory."""
    management, patcher = comfy.model_management, decoder.patcher
    # Some feature maps of the widest resolution, in fp32.
    memory = pictures.shape[-2] * pictures.shape[-1] * patcher.model.config.widths[0] * 4 * 16
    management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
    bar = comfy.utils.ProgressBar(len(pictures) // layers.rows * (layers.rows - 2))

    def decoded() -> Iterator[Tensor]:
        for index, (picture, latent) in enumerate(zip(pictures, latents, strict=True)):
            if 0 < index % layers.rows < layers.rows - 1:
                management.throw_exception_if_processing_interrupted()
                device, dtype = patcher.load_device, next(patcher.model.parameters()).dtype
                rgba = patcher.model.decode(
                    picture[None].to(device, dtype), latent[None].to(device, dtype), views=views)
                yield rgba.float().cpu()
                bar.update(1)

    rgba = torch.cat(list(decoded())).unflatten(0, (-1, layers.rows - 2))
    return torch.cat(clean_layer(rgba[:, :, :3], rgba[:, :, 3:]), 2)


def _stack(pictures: Tensor, rgba: Tensor, layers: LatentLayers) -> LayerStack:
    plan, (height, width) = layers.plan, pictures.shape[-2:]
    count = len(rgba)
    names = plan.names if plan else tuple(f"layer {number}" for number in range(1, count + 1))
    prompts = plan.prompts.layers if plan else ("",) * (count + 1)
    background = Layer(name="background", prompt=prompts[0], color=pictures[0], alpha=torch.ones(1, height, width))
    foregrounds = [Layer(name=name, prompt=prompt, color=one[:3], alpha=one[3:])
                   for name, prompt, one in zip(names, prompts[1:], rgba, strict=True)]
    return LayerStack(width=width, height=height, layers=(background, *foregrounds),
                      global_prompt=plan.prompts.whole if plan else "")


NODES: list[type[io.ComfyNode]] = [DecodeLayers]
