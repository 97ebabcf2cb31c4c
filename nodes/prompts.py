"""From words to conditioning: the plan of a picture's layers, its encoding, and the latent that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.sd
import torch
from comfy_api.latest import io

from ..dreamlayer_core.config import LARGEST_SIDE
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS, LayerPrompts
from .checks import told
from .comfy_model.encode import encode_plan
from .plan_values import core_plan, plan_outputs, read_plan, told_of_plan
from .sockets import LAYERS_KEY, AdapterSocket, LatentLayers, LayerPlan, LoadedAdapter, PlanSocket

__all__ = ["NODES"]

_CATEGORY = "DreamLayer"
_CELL = 8  # pixels per latent cell of an empty latent; ComfyUI's samplers fit it to the model's own
_STEP = 64  # pixels: whole cells of the deepest stage of Stable Diffusion's UNets, and of the embedded one


def _foreground_inputs(number: int) -> list[io.Input]:
    return [
        io.String.Input(f"name_{number}", default=f"layer {number}", tooltip="Its name in the layer editor, PSD or ORA."),
        io.String.Input(f"prompt_{number}", default="", multiline=True, tooltip="What this layer shows, and nothing else."),
        io.Float.Input(f"weight_{number}", default=1.0, min=0.0, max=4.0, step=0.05,
                       tooltip="Weight of the whole prompt, as (words:1.2) gives to single words."),
    ]


def _count(foregrounds: Mapping[str, Any] | None) -> int:
    """ComfyUI drops a DynamicCombo whose choice there is not, and would then call the node without it."""
    chosen = str(foregrounds["foregrounds"]) if foregrounds else "no"
    if not (chosen.isdecimal() and 1 <= int(chosen) <= MAX_FOREGROUNDS):
        raise InputError(f"got {chosen} foreground prompts; give 1 to {MAX_FOREGROUNDS}")
    return int(chosen)


def _typed_plan(background: str, foregrounds: Mapping[str, Any] | None, whole: str, negative: str) -> LayerPlan:
    """What stands in the fields."""
    rows, given = range(1, _count(foregrounds) + 1), foregrounds or {}
    names = tuple(str(given.get(f"name_{n}") or f"layer {n}").strip() or f"layer {n}" for n in rows)
    texts = tuple(str(given.get(f"prompt_{n}") or "") for n in rows)
    weights = tuple(float(given.get(f"weight_{n}", 1.0)) for n in rows)
    return LayerPlan(prompts=LayerPrompts(background, texts, whole=whole, negative=negative), names=names, weights=weights)


class LayerPromptsNode(io.ComfyNode):
    """The layers of a picture in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        options = [
            io.DynamicCombo.Option(str(count), [one for n in range(1, count + 1) for one in _foreground_inputs(n)])
            for count in range(1, MAX_FOREGROUNDS + 1)]
        return io.Schema(
            node_id="DreamLayerPrompts",
            display_name="Layer Prompts (DreamLayer)",
            category=_CATEGORY,
            description="The layers of one picture in words: a background, foregrounds from bottom to top, and what the "
                        "whole is to look like.",
            search_aliases=["dreamlayer", "layer plan", "multi prompt", "regional prompt"],
            inputs=[
                io.String.Input("background", multiline=True, default="green grass under a blue sky",
                                tooltip="The empty scene, without the things on it."),
                io.DynamicCombo.Input("foregrounds", options=options,
                                      tooltip="How many foreground layers, bottom to top: 1 to 16."),
                io.String.Input("whole", multiline=True, default="", optional=True,
                                tooltip="Optional: more words for the picture as a whole, such as its style or light."),
                io.String.Input("negative", multiline=True, default="", optional=True,
                                tooltip="What no layer shall show."),
                io.String.Input("plan_json", multiline=True, default="", optional=True,
                                tooltip="Optional: a plan as JSON, such as this node's own output with changes. Where it is "
                                        "filled, nothing else counts."),
            ],
            outputs=[
                PlanSocket.Output("plan", display_name="layer plan", tooltip="For Encode Layers and Empty Layered Latent."),
                io.String.Output("text", display_name="text", tooltip="The plan in words, a line for each layer."),
                io.String.Output("json", display_name="plan JSON", tooltip="The plan to edit, to save, or for the command line."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, background: str | None = None, foregrounds: Mapping[str, Any] | None = None, plan_json: str | None = None
    ) -> bool | str:
        if plan_json and plan_json.strip():
            return told_of_plan(plan_json)
        return told(lambda: _count(foregrounds))

    @classmethod
    def execute(
        cls, background: str, foregrounds: Mapping[str, Any] | None = None, whole: str = "", negative: str = "", plan_json: str = ""
    ) -> io.NodeOutput:
        if plan_json.strip():
            return plan_outputs(read_plan(plan_json))
        return plan_outputs(core_plan(_typed_plan(background, foregrounds, whole, negative), what="the plan in the fields"))


class EncodeLayers(io.ComfyNode):
    """Layer prompts as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerEncode",
            display_name="Encode Layers (DreamLayer)",
            category=_CATEGORY,
            description="Encodes every layer's prompt alone, and all of them once more for the whole picture. Prompt "
                        "weights, embeddings, long prompts and CLIP skip work as everywhere in ComfyUI.",
            search_aliases=["dreamlayer", "clip text encode", "layer conditioning"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the base model."),
                PlanSocket.Input("plan", tooltip="From Layer Prompts."),
                AdapterSocket.Input("adapter", optional=True, tooltip="The same adapter as in Patch Model, or none in both."),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive",
                                       tooltip="One row for each layer and one for the whole: needs a layered latent."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="The negative prompt, for all rows."),
            ],
        )

    @classmethod
    def execute(cls, clip: comfy.sd.CLIP, plan: LayerPlan, adapter: LoadedAdapter | None = None) -> io.NodeOutput:
        if clip is None:
            raise InputError("got no text encoder (the checkpoint has none); load one with Load CLIP")
        return io.NodeOutput(*encode_plan(clip, plan, None if adapter is None else adapter.weights.layer_assign))


class EmptyLayeredLatent(io.ComfyNode):
    """Room for a picture's layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerEmptyLatent",
            display_name="Empty Layered Latent (DreamLayer)",
            category=_CATEGORY,
            description="Empty latents for all rows of a plan: background, foregrounds and the whole picture. Any size "
                        "works: it is padded inside and cropped when decoded.",
            search_aliases=["dreamlayer", "empty latent image", "layer latent"],
            inputs=[
                PlanSocket.Input("plan", tooltip="From Layer Prompts: it says how many rows."),
                io.Int.Input("width", default=128, min=16, max=LARGEST_SIDE, step=1,
                             tooltip="Of the picture in pixels. The embedded model was trained at 128, SD 1.5 at 512."),
                io.Int.Input("height", default=128, min=16, max=LARGEST_SIDE, step=1, tooltip="Of the picture in pixels."),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many pictures, with all their layers."),
            ],
            outputs=[io.Latent.Output("latent", display_name="layered latent",
                                      tooltip="(layers + 1) x batch_size rows.")],
        )

    @classmethod
    def execute(cls, plan: LayerPlan, width: int, height: int, batch_size: int = 1) -> io.NodeOutput:
        if not (16 <= width <= LARGEST_SIDE and 16 <= height <= LARGEST_SIDE):
            raise InputError(f"got a size of {width}x{height}; give sides of 16 to {LARGEST_SIDE} pixels")
        cells = [-(-side // _STEP) * _STEP // _CELL for side in (height, width)]
        samples = torch.zeros(
            plan.rows * batch_size, 4, *cells, device=comfy.model_management.intermediate_device())
        layers = LatentLayers(plan=plan, rows=plan.rows, width=width, height=height)
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": _CELL, LAYERS_KEY: layers})


NODES: list[type[io.ComfyNode]] = [LayerPromptsNode, EncodeLayers, EmptyLayeredLatent]
