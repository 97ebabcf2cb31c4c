"""Weights of single layers on a MODEL: LoRAs, and LayerDiffuse's attention."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import comfy.model_patcher
import comfy.sd
import folder_paths
from comfy_api.latest import io
from torch import Tensor, nn

from ..dreamlayer_core.composite import gray_fill
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layer_loras import load_lora
from ..dreamlayer_core.layerdiffuse import Given
from ..dreamlayer_core.layerdiffuse_files import load_layerdiffuse
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS
from ..dreamlayer_core.row_weights import Additions
from ..dreamlayer_core.safetensors_files import about
from .comfy_model.layerdiffuse_rows import layerdiffuse_source
from .comfy_model.row_patch import RowCall, patch_rows
from .comfy_model.text_rows import patch_texts

__all__ = ["NODES"]

_CATEGORY = "DreamLayer"
_LORAS, _ATTENTION = "loras", "layer_model"
_WHOLE = -1

_log = logging.getLogger(__name__)


class LayerLora(io.ComfyNode):
    """A LoRA for one layer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLayerLora",
            display_name="Layer LoRA (DreamLayer)",
            category=_CATEGORY,
            description="A LoRA for one layer alone: its style or object is this layer's, and no other's. Several in a row add up. "
                        "Before or after Patch Model.",
            search_aliases=["dreamlayer", "lora per layer", "style per layer", "regional lora", "load lora"],
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion model, patched or not."),
                io.Int.Input("layer", default=1, min=_WHOLE, max=MAX_FOREGROUNDS,
                             tooltip="Which one: 0 is the background, 1 the lowest foreground, -1 the whole picture."),
                io.Combo.Input("lora_name", options=folder_paths.get_filename_list(_LORAS),
                               tooltip="A .safetensors file in models/loras, made for the base model."),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01, tooltip="Of the LoRA; 0 is none."),
                io.Clip.Input("clip", optional=True,
                              tooltip="For Encode Layers, where the LoRA has weights for the text encoder: they act on the layer's prompt."),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="For Patch Model, Layered KSampler, or another Layer LoRA."),
                io.Clip.Output("clip", display_name="clip", tooltip="For Encode Layers; only where a clip is given."),
            ],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, layer: int, lora_name: str, strength: float = 1.0,
        clip: comfy.sd.CLIP | None = None,
    ) -> io.NodeOutput:
        if strength == 0:
            return io.NodeOutput(model, clip)
        path = Path(folder_paths.get_full_path_or_raise(_LORAS, lora_name))
        lora, rows = load_lora(path), "global" if layer == _WHOLE else layer

        def source(modules: Mapping[str, nn.Module], call: RowCall) -> Additions:
            return lora.additions(modules, rows, strength)

        with about(path):
            patched = patch_rows(model, source, lora)
            if clip is not None:
                clip = patch_texts(clip, lora, rows, strength)
            elif lora.has_text:
                _log.info("%s has weights for the text encoder, too; they act where Layer LoRA is given the clip", lora_name)
        return io.NodeOutput(patched, clip)


class LayerDiffuseAttention(io.ComfyNode):
    """LayerDiffuse's attention weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLayerDiffuseAttention",
            display_name="LayerDiffuse Attention (DreamLayer)",
            category=_CATEGORY,
            description="LayerDiffuse's attention weights on the foreground rows, so that a base model without an adapter paints single "
                        "things: layer_sd15_transparent_attn or layer_xl_transparent_attn. For pictures of one foreground: "
                        "layer_sd15_joint joins all rows; layer_sd15_bg2fg and layer_sd15_fg2bg go by a finished background or foreground.",
            search_aliases=["dreamlayer", "layer diffuse apply", "layerdiffuse", "transparent attention", "joint", "fg2bg", "bg2fg"],
            inputs=[
                io.Model.Input("model", tooltip="A model of Stable Diffusion 1.x or XL, patched or not."),
                io.Combo.Input("weights_name", options=folder_paths.get_filename_list(_ATTENTION),
                               tooltip="A .safetensors file in models/layer_model, made for the base model."),
                io.Image.Input("picture", optional=True,
                               tooltip="The finished layer, for layer_sd15_bg2fg and layer_sd15_fg2bg; what is transparent becomes gray."),
                io.Combo.Input("given", options=["background", "foreground"], default="background", optional=True, advanced=True,
                               tooltip="Which layer the picture shows: the background for layer_sd15_bg2fg, the foreground for "
                                       "layer_sd15_fg2bg. The files are alike, so that the wrong one cannot be told."),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="For Patch Model or Layered KSampler.")],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, weights_name: str, picture: Tensor | None = None, given: Given = "background"
    ) -> io.NodeOutput:
        path = Path(folder_paths.get_full_path_or_raise(_ATTENTION, weights_name))
        weights, control = load_layerdiffuse(path), picture if picture is None else _on_gray(picture)
        with about(path):
            return io.NodeOutput(patch_rows(model, layerdiffuse_source(weights, control, given), weights))


def _on_gray(picture: Tensor) -> Tensor:
    """IMAGE (1, H, W, 3 or 4) -> (3, H, W). InputError for others."""
    if len(picture) != 1 or picture.shape[-1] not in (3, 4):
        raise InputError(f"got {len(picture)} pictures of {picture.shape[-1]} channels as a finished layer; give one, RGB or RGBA")
    channels = picture[0].movedim(-1, 0)
    return channels if len(channels) == 3 else gray_fill(channels[:3], channels[3:])


NODES: list[type[io.ComfyNode]] = [LayerLora, LayerDiffuseAttention]
