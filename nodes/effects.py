"""Layers against a picture: effects layers from a harmonized one, layers held to one, and how near they come."""

from __future__ import annotations

from typing import get_args

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.composite import flatten, white_fill
from ..dreamlayer_core.config import FitColors, PictureFit
from ..dreamlayer_core.derived import take_off
from ..dreamlayer_core.effects import find_effects, with_effects
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.evaluation.recomposition import check_recomposition
from ..dreamlayer_core.layers import OPAQUE, LayerStack
from ..dreamlayer_core.picture_fit import fit_stack
from ..dreamlayer_core.residual import with_residual
from .documents import image_from_pictures, item_pixels, layers_from_stacks, stacks_from_layers

__all__ = ["NODES"]


class EffectsLayer(io.ComfyNode):
    """What harmonizing did, as layers between the layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerEffects",
            display_name="Effects Layer",
            category="DreamLayer/layers",
            description="Turns a harmonized picture back into layers: what it darkened becomes multiply layers, what it "
                        "lightened screen layers, above the background and above all. Merged in sRGB, layers and effects "
                        "give the harmonized picture, and its shadows can be edited.",
            search_aliases=["shadow layer", "shadows to layer", "multiply layer", "screen layer", "harmonized to layers",
                            "relight layers", "residual layer"],
            inputs=[
                io.Layers.Input("layers", tooltip="Layers over an opaque background. Effects and residual layers that they have "
                                                  "already are replaced."),
                io.Image.Input("harmonized", tooltip="The harmonized picture, as large as the layers: one, or one for each "
                                                     "picture of a batch."),
                io.Boolean.Input("residual", default=False,
                                 tooltip="Add a layer on top that holds the few pixels that effects cannot reach, so that the "
                                         "layers merge to the harmonized picture bit for bit in 8 bits."),
            ],
            outputs=[
                io.Layers.Output("layers", display_name="layers",
                                 tooltip="The layers with their effects layers, for Save Layers, Flatten Layers and Create "
                                         "Layered Image."),
            ],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type, harmonized: io.Image.Type, residual: bool = False) -> io.NodeOutput:
        plain = [take_off(stack).stack for stack in stacks_from_layers(layers)]
        pictures = _pictures(harmonized, plain, "harmonized")
        if bool((pictures[:, 3] < OPAQUE).any()):
            raise InputError("got a harmonized picture with transparency; lay it over an opaque background first")
        # The stacks of a batch have to be alike: there an effect that changes nothing keeps its empty layer.
        done = [with_effects(stack, find_effects(stack, picture[:3]), keep_empty=len(plain) > 1)
                for stack, picture in zip(plain, pictures, strict=True)]
        if residual:
            done = [with_residual(stack, picture[:3]) for stack, picture in zip(done, pictures, strict=True)]
        return io.NodeOutput(layers_from_stacks(done))


class RemoveEffects(io.ComfyNode):
    """The layers without their effects."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerRemoveEffects",
            display_name="Remove Effects Layers",
            category="DreamLayer/layers",
            description="Takes off the layers that Effects Layer has added, effects and residual, known by their names and "
                        "blend modes.",
            search_aliases=["remove shadows", "strip effects", "delete residual", "plain layers"],
            inputs=[io.Layers.Input("layers", tooltip="Layers with or without effects layers.")],
            outputs=[io.Layers.Output("layers", display_name="layers", tooltip="The layers without light between them.")],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type) -> io.NodeOutput:
        stacks = stacks_from_layers(layers)
        plain = [take_off(stack).stack for stack in stacks]
        # Without effects the document stays as it was, with placements that others have written.
        same = all(len(new.layers) == len(old.layers) for new, old in zip(plain, stacks, strict=True))
        return io.NodeOutput(layers if same else layers_from_stacks(plain))


class FitLayers(io.ComfyNode):
    """Layers held to the picture that they were found in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerFitLayers",
            display_name="Fit Layers to Picture",
            category="DreamLayer/layers",
            description="Holds layers to the picture that they were found in: each is cut to where its context map has it, and "
                        "what is seen of it takes the picture's own colours. What is hidden stays as it was sampled.",
            search_aliases=["exact colors", "sharpen layers", "clean layers", "match picture", "decompose fit", "unblend"],
            inputs=[
                io.Layers.Input("layers", tooltip="From Decode Layers, after Decompose. Hidden layers keep their colours."),
                io.Image.Input("image", tooltip="The picture that was taken apart, as large as the layers: one, or one for each "
                                                "picture of a batch. What is transparent counts as white."),
                io.Combo.Input("colors", options=list(get_args(FitColors)), default=PictureFit.colors,
                               tooltip="all: merged, the layers give the picture; its shadows lie on the background. foregrounds: "
                                       "the background stays as sampled, without shadows. none: only alphas are cut."),
                io.Int.Input("margin", default=4, min=0, max=512,
                             tooltip="Pixels by which an object may reach beyond its context map, about half a cell of the map: 4 for the "
                                     "embedded model at 128 pixels, 16 for Stable Diffusion at 512."),
                io.Image.Input("context_maps", optional=True,
                               tooltip="From Decompose: a picture for each foreground. Without them alphas stay as they are."),
            ],
            outputs=[
                io.Layers.Output("layers", display_name="layers", tooltip="The layers, each on the whole canvas."),
                io.Image.Output("images", display_name="RGBA images", tooltip="The same as pictures with alpha, bottom to top."),
                io.Image.Output("composite", display_name="composite", tooltip="The layers laid over each other."),
            ],
        )

    @classmethod
    def execute(
        cls, layers: io.Layers.Type, image: io.Image.Type, colors: FitColors = "all", margin: int = 4,
        context_maps: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        stacks = [take_off(stack).stack for stack in stacks_from_layers(layers)]
        maps = [None] * len(stacks) if context_maps is None else _maps(context_maps, stacks)
        fit = PictureFit(colors=colors)
        done = [fit_stack(stack, white_fill(picture[:3], picture[3:]), own, margin=margin, fit=fit)
                for stack, picture, own in zip(stacks, _pictures(image, stacks, "image"), maps, strict=True)]
        images = torch.cat([torch.stack([layer.rgba for layer in stack.layers]) for stack in done])
        return io.NodeOutput(
            layers_from_stacks(done), image_from_pictures(images),
            image_from_pictures(torch.stack([flatten(stack) for stack in done])))


class RecomposeCheck(io.ComfyNode):
    """Merged layers against a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerRecomposeCheck",
            display_name="Recompose Check",
            category="DreamLayer/layers",
            description="Merges the layers in sRGB and compares them with a picture: a picture of the difference, and how near "
                        "they come.",
            search_aliases=["psnr", "compare images", "difference image", "layer error", "recomposition", "diff"],
            inputs=[
                io.Layers.Input("layers", tooltip="Layers to merge and compare."),
                io.Image.Input("image", tooltip="The picture that they should give, as large as the layers: one, or one for each "
                                                "picture of a batch. What is transparent counts as black."),
                io.Float.Input("amplify", default=10.0, min=1.0, max=255.0, step=1.0,
                               tooltip="The difference is shown this many times as strong."),
            ],
            outputs=[
                io.Image.Output("difference", display_name="difference",
                                tooltip="How far every pixel is off, amplified. Black where they agree."),
                io.Float.Output("psnr", display_name="PSNR",
                                tooltip="In dB, at most 60; of a batch the lowest. From about 40 on a difference is hard to see."),
                io.String.Output("text", display_name="text",
                                 tooltip="PSNR, how many pixels differ in 8 bits, and by how much. A line for each picture."),
            ],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type, image: io.Image.Type, amplify: float = 10.0) -> io.NodeOutput:
        stacks = stacks_from_layers(layers)
        found = [check_recomposition(stack, picture, amplify=amplify)
                 for stack, picture in zip(stacks, _pictures(image, stacks, "image"), strict=True)]
        difference = image_from_pictures(torch.stack([one.difference for one in found]))
        return io.NodeOutput(difference, min(one.psnr for one in found), "\n".join(map(str, found)))


def _pictures(image: Tensor, stacks: list[LayerStack], name: str) -> Tensor:
    """RGBA (stacks, 4, h, w) of an IMAGE of one picture, or of one for each stack, float32 on the CPU."""
    rgba = torch.cat(item_pixels({"name": name, "image": image}), dim=1)
    expected = (stacks[0].width, stacks[0].height)
    if (rgba.shape[-1], rgba.shape[-2]) != expected:
        raise InputError(
            f"got a picture {name!r} of {rgba.shape[-1]}x{rgba.shape[-2]} pixels for layers of {expected[0]}x{expected[1]}; give "
            "one of the layers' own size, scaled or cropped before")
    if len(rgba) not in (1, len(stacks)):
        raise InputError(
            f"got {len(rgba)} pictures {name!r} for layers of {len(stacks)} picture(s); give one, or {len(stacks)}")
    return rgba.expand(len(stacks), -1, -1, -1)


def _maps(image: Tensor, stacks: list[LayerStack]) -> list[Tensor]:
    """Context maps (foregrounds, h, w) of every stack, from an IMAGE of them all."""
    counts, (found, height, width) = [len(stack.foregrounds) for stack in stacks], image.shape[:3]
    total, canvas = sum(counts), (stacks[0].width, stacks[0].height)
    if (found, (width, height)) != (total, canvas):
        raise InputError(
            f"got {found} context maps of {width}x{height} for {total} foregrounds at {canvas[0]}x{canvas[1]}; connect those of "
            "the Decompose that the layers come from")
    return list(image[..., 0].cpu().float().split(counts))


NODES: list[type[io.ComfyNode]] = [EffectsLayer, RemoveEffects, FitLayers, RecomposeCheck]
