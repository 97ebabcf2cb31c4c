"""Loading: the embedded model, adapters and transparent decoders."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
from comfy_api.latest import io

from ..dreamlayer_core.model_files import ADAPTER, EMBEDDED, LAYER_DECODER
from ..dreamlayer_core.weights import load_adapter, load_transparent_decoder
from .comfy_model.files import load_clip, load_model, load_vae
from .sockets import AdapterSocket, DecoderSocket, LoadedAdapter, LoadedDecoder

__all__ = ["NODES"]

_CATEGORY = "DreamLayer/loaders"
_EMBEDDED = "embedded"
_ADAPTERS, _DECODERS = "dreamlayer", "layer_model"

for _folder in (_ADAPTERS, _DECODERS):
    folder_paths.add_model_folder_path(_folder, os.path.join(folder_paths.models_dir, _folder))
    # A folder added this way accepts every file until it is told otherwise.
    folder_paths.folder_names_and_paths[_folder][1].add(".safetensors")


def _adapter(path: Path, name: str) -> LoadedAdapter:
    weights = load_adapter(path)
    return LoadedAdapter(weights=weights, family=weights.settings.base_family, name=name)


def _decoder(path: Path) -> LoadedDecoder:
    decoder = load_transparent_decoder(path).eval().requires_grad_(False)
    management = comfy.model_management
    patcher = comfy.model_patcher.ModelPatcher(
        decoder, load_device=management.vae_device(), offload_device=management.vae_offload_device())
    return LoadedDecoder(patcher=patcher, latent_scale=decoder.config.latent_scale)


class LoadEmbeddedModel(io.ComfyNode):
    """The small model that comes with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLoadEmbeddedModel",
            display_name="Load Embedded Model (DreamLayer)",
            category=_CATEGORY,
            description="The small model that comes with DreamLayer: it needs no download and knows simple painted scenes "
                        "of 128x128 pixels. Every template runs on it as it comes.",
            search_aliases=["dreamlayer", "layer diffusion", "demo model", "transparent"],
            inputs=[],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The denoising UNet."),
                io.Clip.Output("clip", display_name="clip", tooltip="The text encoder."),
                io.Vae.Output("vae", display_name="vae", tooltip="The autoencoder, 4 pixels per latent cell."),
                DecoderSocket.Output("decoder", display_name="layer decoder", tooltip="The transparent decoder."),
                AdapterSocket.Output("adapter", display_name="adapter", tooltip="The trained DreamLayer adapter."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(
            load_model(EMBEDDED), load_clip(EMBEDDED), load_vae(EMBEDDED), _decoder(EMBEDDED / LAYER_DECODER),
            _adapter(EMBEDDED / ADAPTER, _EMBEDDED))


class LoadAdapter(io.ComfyNode):
    """An adapter file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLoadAdapter",
            display_name="Load Adapter (DreamLayer)",
            category=_CATEGORY,
            description="A trained DreamLayer adapter from models/dreamlayer. Without one, the method works training-free.",
            search_aliases=["dreamlayer", "layer adapter", "lora"],
            inputs=[io.Combo.Input(
                "adapter_name", options=[_EMBEDDED, *folder_paths.get_filename_list(_ADAPTERS)], default=_EMBEDDED,
                tooltip="A .safetensors file in models/dreamlayer; 'embedded' is the embedded model's.")],
            outputs=[
                AdapterSocket.Output("adapter", display_name="adapter", tooltip="For Encode Layers and Patch Model."),
                io.String.Output("family", display_name="base family", tooltip="The base models that it fits."),
            ],
        )

    @classmethod
    def execute(cls, adapter_name: str) -> io.NodeOutput:
        path = EMBEDDED / ADAPTER if adapter_name == _EMBEDDED else Path(
            folder_paths.get_full_path_or_raise(_ADAPTERS, adapter_name))
        adapter = _adapter(path, adapter_name)
        return io.NodeOutput(adapter, adapter.family)


def _decoder_files() -> list[str]:
    return [_EMBEDDED, *folder_paths.get_filename_list(_DECODERS),
            *(name for name in folder_paths.get_filename_list("vae") if "transparent" in name or "layer" in name)]


class LoadDecoder(io.ComfyNode):
    """A transparent decoder file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLoadDecoder",
            display_name="Load Layer Decoder (DreamLayer)",
            category=_CATEGORY,
            description="A transparent decoder of LayerDiffuse's architecture, which finds the alpha of foreground layers: "
                        "layer_sd15_vae_transparent_decoder.safetensors or vae_transparent_decoder.safetensors.",
            search_aliases=["dreamlayer", "layer diffuse decode", "transparent decoder", "alpha"],
            inputs=[io.Combo.Input(
                "decoder_name", options=_decoder_files(), default=_EMBEDDED,
                tooltip="A .safetensors file in models/layer_model or models/vae; 'embedded' is the embedded model's.")],
            outputs=[DecoderSocket.Output("decoder", display_name="layer decoder", tooltip="For Decode Layers.")],
        )

    @classmethod
    def execute(cls, decoder_name: str) -> io.NodeOutput:
        if decoder_name == _EMBEDDED:
            return io.NodeOutput(_decoder(EMBEDDED / LAYER_DECODER))
        kind = _DECODERS if decoder_name in folder_paths.get_filename_list(_DECODERS) else "vae"
        return io.NodeOutput(_decoder(Path(folder_paths.get_full_path_or_raise(kind, decoder_name))))


NODES: list[type[io.ComfyNode]] = [LoadEmbeddedModel, LoadAdapter, LoadDecoder]
