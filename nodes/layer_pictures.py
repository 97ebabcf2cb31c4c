"""Pictures that single layers go by: a ControlNet's hint, an IP-Adapter's image prompt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.model_patcher
import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.image_prompts import check_strength, load_image_adapter
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS
from ..dreamlayer_core.safetensors_files import about
from .checks import check_range, told
from .comfy_model.image_prompts import patch_image_prompt
from .comfy_model.layer_control import LayerControl, add_control, check_base, control_rows

__all__ = ["NODES"]

_CATEGORY = "DreamLayer"
_ADAPTERS = "ipadapter"
_WHOLE = -1

folder_paths.add_model_folder_path(_ADAPTERS, os.path.join(folder_paths.models_dir, _ADAPTERS))
# A folder added this way accepts every file until it is told otherwise.
folder_paths.folder_names_and_paths[_ADAPTERS][1].add(".safetensors")


def _range() -> list[io.Input]:
    return [
        io.Int.Input("layer", default=1, min=_WHOLE, max=MAX_FOREGROUNDS,
                     tooltip="Which one: 0 is the background, 1 the lowest foreground, -1 the whole picture."),
        io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01,
                       tooltip="How much it counts; 1 as trained, 0 not at all."),
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001,
                       tooltip="It acts from this share of the sampling on."),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001,
                       tooltip="It acts up to this share of the sampling."),
    ]


def _told_range(start: float | None, end: float | None) -> bool | str:
    return True if start is None or end is None else told(lambda: check_range(start, end))


class LayerControlNet(io.ComfyNode):
    """A ControlNet for one layer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLayerControlNet",
            display_name="Layer ControlNet (DreamLayer)",
            category=_CATEGORY,
            description="A ControlNet that acts on one layer alone: its hint says where this layer's edges, depths or poses "
                        "are, and no other layer's. Several go one after the other, next to Apply ControlNet, which acts on "
                        "all layers.",
            search_aliases=["dreamlayer", "controlnet per layer", "apply controlnet", "canny", "depth", "pose",
                            "regional controlnet"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="From Encode Layers, or from this node with another layer."),
                io.Conditioning.Input("negative", tooltip="From Encode Layers, or from this node with another layer."),
                io.ControlNet.Input("control_net", tooltip="From Load ControlNet Model, made for the base model."),
                io.Image.Input("image", tooltip="The hint, such as a canny or depth picture, in the picture's shape. Several "
                                                "are one for each picture of a batch."),
                *_range(),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive",
                                       tooltip="For Layered KSampler, or any other sampler."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="For the same sampler."),
            ],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float | None = None, end_percent: float | None = None) -> bool | str:
        return _told_range(start_percent, end_percent)

    @classmethod
    def execute(
        cls, positive: list[Any], negative: list[Any], control_net: comfy.controlnet.ControlBase, image: Tensor,
        layer: int = 1, strength: float = 1.0, start_percent: float = 0.0, end_percent: float = 1.0,
    ) -> io.NodeOutput:
        check_range(start_percent, end_percent)
        check_strength(strength, "a ControlNet")
        rows = control_rows(positive)
        if not _WHOLE <= layer < rows - 1:
            raise InputError(
                f"got layer {layer} of a plan with {rows - 2} foregrounds; give 0 (the background) to {rows - 2}, or -1 (the "
                "whole picture)")
        check_base(control_net, int(positive[0][0].shape[-1]))
        if strength == 0:
            return io.NodeOutput(positive, negative)
        hint = image[..., :3].movedim(-1, 1)

        def control() -> LayerControl:
            inner = control_net.copy().set_cond_hint(hint, strength, (start_percent, end_percent))
            return LayerControl(inner, layer % rows, rows)

        return io.NodeOutput(*add_control((positive, negative), control))


class LayerImagePrompt(io.ComfyNode):
    """A picture as the prompt of one layer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLayerImagePrompt",
            display_name="Layer Image Prompt (DreamLayer)",
            category=_CATEGORY,
            description="A picture as the prompt of one layer, beside its text: an IP-Adapter that acts on this layer alone. "
                        "Several go one after the other. For IP-Adapters of the base form.",
            search_aliases=["dreamlayer", "ip-adapter", "ipadapter", "image prompt", "style reference",
                            "regional ip-adapter"],
            inputs=[
                io.Model.Input("model", tooltip="The base model, before or after Patch Model."),
                io.Combo.Input("ip_adapter_name", options=folder_paths.get_filename_list(_ADAPTERS),
                               tooltip="A .safetensors file in models/ipadapter, such as ip-adapter_sd15, made for the base "
                                       "model."),
                io.ClipVisionOutput.Input(
                    "clip_vision_output", tooltip="From CLIP Vision Encode, with the CLIP vision model that the IP-Adapter was "
                                                  "made for. Several pictures count together."),
                *_range(),
            ],
            outputs=[io.Model.Output("model", display_name="model",
                                     tooltip="For Layered KSampler, any other sampler, or Patch Model.")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float | None = None, end_percent: float | None = None) -> bool | str:
        return _told_range(start_percent, end_percent)

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, ip_adapter_name: str, clip_vision_output: Any, layer: int = 1,
        strength: float = 1.0, start_percent: float = 0.0, end_percent: float = 1.0,
    ) -> io.NodeOutput:
        check_range(start_percent, end_percent)
        check_strength(strength, "an image prompt")
        path = Path(folder_paths.get_full_path_or_raise(_ADAPTERS, ip_adapter_name))
        prompt = load_image_adapter(path).prompt(_embeddings(clip_vision_output))
        with about(path):
            return io.NodeOutput(patch_image_prompt(
                model, prompt, "global" if layer == _WHOLE else layer, strength=strength, start_percent=start_percent,
                end_percent=end_percent))


def _embeddings(output: Any) -> Tensor:
    """(pictures, e). InputError for vision models without a projection."""
    embeddings = output["image_embeds"]
    if not isinstance(embeddings, Tensor):
        raise InputError(
            "got a vision model that makes no image embedding; load the CLIP vision model that the IP-Adapter was made for")
    return embeddings.cpu().float()


NODES: list[type[io.ComfyNode]] = [LayerControlNet, LayerImagePrompt]
