"""Small tools on LAYERS documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.composite import defringe
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import Layer, LayerStack
from ..dreamlayer_core.placement import cut_out
from .documents import (
    flattened,
    image_from_pictures,
    item_pixels,
    item_with_pixels,
    layer_items,
    layers_from_stacks,
    stacks_from_layers,
)

__all__ = ["NODES"]

_MATTES = {"gray": 0.5, "white": 1.0, "black": 0.0, "none": None}


class DreamLayerFlatten(io.ComfyNode):
    """LAYERS to one picture. (Eq. 1)"""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerFlatten",
            display_name="Flatten Layers (sRGB)",
            category="DreamLayer/layers",
            description=(
                "Merges layers into one picture, blending in plain sRGB as Photoshop and picture models do. ComfyUI's "
                "own Create Layered Image blends in linear light instead: half-transparent edges and shadows come out "
                "lighter there."
            ),
            search_aliases=["merge layers", "composite layers", "flatten image", "layers to image", "alpha over"],
            inputs=[
                io.Layers.Input(
                    "layers",
                    tooltip=(
                        "Layers to merge, with their places, masks, opacities and visibility. Blend modes: normal, "
                        "multiply, screen, overlay, darken, lighten, hard-light, difference."
                    ),
                )
            ],
            outputs=[
                io.Image.Output(
                    "image", tooltip="The merged picture: RGB where the layers cover everything, else RGBA."
                ),
                io.Mask.Output("mask", tooltip="Transparency of the merged picture (1 = transparent)."),
            ],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type) -> io.NodeOutput:
        return io.NodeOutput(*flattened(stacks_from_layers(layers)))


class DreamLayerLayersToImages(io.ComfyNode):
    """LAYERS to a batch of RGBA pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLayersToImages",
            display_name="Layers to Images",
            category="DreamLayer/layers",
            description=(
                "Takes layers apart into a batch of RGBA pictures, bottom to top. Placement and masks are applied; "
                "opacity, blend mode and visibility are not."
            ),
            search_aliases=["split layers", "extract layers", "layers to batch", "unpack layers", "rgba"],
            inputs=[
                io.Layers.Input("layers", tooltip="Layers to take apart."),
                io.Boolean.Input(
                    "full_canvas",
                    default=True,
                    tooltip=(
                        "On: every picture is as large as the canvas, and its layer stands where it belongs. Off: "
                        "every layer is cut to its content and stands in the top left corner of a picture as large as "
                        "the largest layer."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="RGBA pictures with straight alpha, one per layer, bottom to top."),
                io.Mask.Output("masks", tooltip="Transparency of every layer (1 = transparent)."),
                io.String.Output("names", tooltip="Names of the layers, one a line, in the pictures' order."),
            ],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type, full_canvas: bool = True) -> io.NodeOutput:
        stacks = stacks_from_layers(layers, blend_modes=False)
        placed = [layer for stack in stacks for layer in stack.layers]
        if full_canvas:
            shown = [layer.on_canvas(stacks[0].width, stacks[0].height) for layer in placed]
        else:
            shown = _cut_to_content(placed)
        rgba = torch.stack([layer.rgba for layer in shown])
        names = "\n".join(" ".join(layer.name.split()) for layer in placed)
        return io.NodeOutput(image_from_pictures(rgba), 1 - rgba[:, 3], names)


def _cut_to_content(layers: Sequence[Layer]) -> list[Layer]:
    """Every layer from the corner of what it shows, all of one size."""
    boxes = [layer.box or (layer.x, layer.y, layer.x + 1, layer.y + 1) for layer in layers]
    width, height = max(box[2] - box[0] for box in boxes), max(box[3] - box[1] for box in boxes)
    return [
        cut_out(layer, (left, top, left + width, top + height))
        for layer, (left, top, _, _) in zip(layers, boxes, strict=True)
    ]


class DreamLayerImagesToLayers(io.ComfyNode):
    """A batch of pictures to LAYERS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerImagesToLayers",
            display_name="Images to Layers",
            category="DreamLayer/layers",
            description=(
                "Makes layers of a batch of pictures: the first is the bottom layer. Alpha comes from RGBA pictures, "
                "from masks, or from both."
            ),
            search_aliases=[
                "image batch to layers",
                "batch to layers",
                "make layers",
                "stack images",
                "rgba to layers",
            ],
            inputs=[
                io.Image.Input("images", tooltip="RGB or RGBA pictures, all as large as the canvas, bottom to top."),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip=(
                        "One mask for all pictures, or one each (1 = transparent, as Load Image gives them); "
                        "multiplied with the alpha that a picture has."
                    ),
                ),
                io.String.Input(
                    "names",
                    default="",
                    multiline=True,
                    optional=True,
                    placeholder="Background\nTree\nMug",
                    tooltip="Names of the layers, one a line, bottom to top. Layers without one are numbered.",
                ),
            ],
            outputs=[io.Layers.Output("layers", tooltip="The layers, each cut to its content, on one canvas.")],
        )

    @classmethod
    def execute(cls, images: io.Image.Type, masks: io.Mask.Type | None = None, names: str | None = "") -> io.NodeOutput:
        item = {"name": "images", "image": images} | ({} if masks is None else {"mask": masks})
        color, alpha = item_pixels(item)
        _check_masks(masks, len(color))
        layers = tuple(
            Layer(name=name, color=one_color, alpha=one_alpha)
            for name, one_color, one_alpha in zip(_names(names or "", len(color)), color, alpha, strict=True)
        )
        height, width = color.shape[-2:]
        return io.NodeOutput(layers_from_stacks([LayerStack(width=width, height=height, layers=layers)]))


def _check_masks(masks: Tensor | None, count: int) -> None:
    if masks is not None and masks.ndim == 3 and len(masks) not in (1, count):
        raise InputError(f"got {len(masks)} masks for {count} images; give one, or {count}")


def _names(text: str, count: int) -> list[str]:
    given = [line.strip() for line in text.rstrip().splitlines()]
    if len(given) > count:
        raise InputError(f"got {len(given)} names for {count} images; give at most {count}, one a line")
    given += [""] * (count - len(given))
    return [name or f"Layer {index + 1}" for index, name in enumerate(given)]


class DreamLayerDefringe(io.ComfyNode):
    """LAYERS without coloured edges."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerDefringe",
            display_name="Defringe Layers",
            category="DreamLayer/layers",
            description=(
                "Takes the colour of a former background out of soft edges, and lets the colours of solid parts run on "
                "under them. Opaque pixels stay as they are, bit for bit."
            ),
            search_aliases=["remove halo", "remove fringe", "edge bleed", "matting", "decontaminate colors", "despill"],
            inputs=[
                io.Layers.Input("layers", tooltip="Layers whose edges have a fringe."),
                io.Combo.Input(
                    "matte",
                    options=list(_MATTES),
                    default="gray",
                    tooltip=(
                        "What the layers were painted on: gray for layers from this pack's models, white or black for "
                        "cut-out pictures, none if colours only need to run under the edges."
                    ),
                ),
            ],
            outputs=[io.Layers.Output("layers", tooltip="The same layers with clean edges. Masks have become alpha.")],
        )

    @classmethod
    def execute(cls, layers: io.Layers.Type, matte: str = "gray") -> io.NodeOutput:
        if matte not in _MATTES:
            raise InputError(f"got matte {matte!r}; give one of {', '.join(_MATTES)}")
        # On the items themselves: a layer that is turned or scaled keeps its own pixels.
        items = []
        for item in layer_items(layers):
            color, alpha = item_pixels(item)
            items.append(item_with_pixels(item, defringe(color, alpha, matte=_MATTES[matte]), alpha))
        return io.NodeOutput({**layers, "layers": items})


NODES: list[type[io.ComfyNode]] = [
    DreamLayerFlatten,
    DreamLayerLayersToImages,
    DreamLayerImagesToLayers,
    DreamLayerDefringe,
]
