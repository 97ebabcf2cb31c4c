"""A model folder in diffusers' layout (the embedded model's) as ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.model_base
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
from comfy import latent_formats
from torch import Tensor

from ...dreamlayer_core.errors import WeightsError
from ...dreamlayer_core.model_files import read_schedule, require_model_folder
from ...dreamlayer_core.safetensors_files import read_tensors
from .vae_keys import to_ldm_vae

__all__ = ["SmallModel", "load_clip", "load_model", "load_vae"]


class _Ratio(float):
    """A stage's width over the first one's, where it is no whole number: UNetModel multiplies, and needs an int."""

    def __mul__(self, other: float) -> int:  # type: ignore[override]
        return round(float(self) * other)

    __rmul__ = __mul__


def _config(folder: Path, part: str) -> dict[str, Any]:
    return json.loads((folder / part / "config.json").read_text())


def _weights(folder: Path, part: str, name: str = "diffusion_pytorch_model") -> dict[str, Tensor]:
    return read_tensors(folder / part / f"{name}.safetensors")[0]


def unet_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """UNetModel's arguments for a diffusers UNet config. The widths of heads must be the same in all stages."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    heads = {width // count for width, count in zip(widths, config["attention_head_dim"], strict=True)}
    if len(heads) != 1:
        raise WeightsError(f"got a UNet with attention heads of {sorted(heads)} channels; ComfyUI takes one width for all")
    attention = [int(kind == "CrossAttnDownBlock2D") for kind in config["down_block_types"]]
    return {
        "image_size": config["sample_size"], "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
        "in_channels": config["in_channels"], "out_channels": config["out_channels"], "model_channels": widths[0],
        "channel_mult": [_Ratio(width / widths[0]) for width in widths], "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [depth for depth in attention for _ in range(layers)],
        "transformer_depth_output": [depth for depth in attention for _ in range(layers + 1)],
        "transformer_depth_middle": 1, "context_dim": config["cross_attention_dim"],
        "use_linear_in_transformer": bool(config["use_linear_projection"]),
        "use_temporal_attention": False, "use_temporal_resblock": False,
        "num_heads": -1, "num_head_channels": heads.pop(),
    }


class _LatentFormat(latent_formats.LatentFormat):
    def __init__(self, vae_config: Mapping[str, Any]) -> None:
        self.scale_factor = vae_config["scaling_factor"]
        self.spacial_downscale_ratio = _vae_scale(vae_config)
        # The embedded VAE's first three channels follow the picture, which gives a preview for nothing.
        self.latent_rgb_factors = [[0.25, 0, 0], [0, 0.25, 0], [0, 0, 0.25], [0, 0, 0]]


def _vae_scale(config: Mapping[str, Any]) -> int:
    return 2 ** (len(config["block_out_channels"]) - 1)


class SmallModel(comfy.supported_models_base.BASE):
    """ComfyUI knows Stable Diffusion by its 320 channels: a small model brings its own config."""

    unet_extra_config: dict[str, Any] = {}  # heads are in unet_config
    memory_usage_factor = 1.0
    native_side = 0  # cells of the latents that it was trained for


def load_model(folder: Path) -> comfy.model_patcher.ModelPatcher:
    """The UNet as a MODEL. Raises WeightsError for what is missing or damaged."""
    folder = require_model_folder(folder)
    schedule, config = read_schedule(folder), unet_config(_config(folder, "unet"))
    weights = _weights(folder, "unet")
    names = comfy.utils.unet_to_diffusers(config)
    if missing := sorted(set(weights) - set(names)):
        raise WeightsError(f"{folder / 'unet'} has weights that ComfyUI's UNet does not know: {missing[:3]}")
    model_config = SmallModel(config)
    model_config.native_side = config["image_size"]
    model_config.latent_format = _LatentFormat(_config(folder, "vae"))
    model_config.sampling_settings = {
        "linear_start": schedule.beta_start, "linear_end": schedule.beta_end, "timesteps": schedule.train_steps}
    kinds = comfy.model_base.ModelType
    kind = kinds.V_PREDICTION if schedule.prediction_type == "v_prediction" else kinds.EPS
    management, device = comfy.model_management, comfy.model_management.get_torch_device()
    dtype = management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights), supported_dtypes=model_config.supported_inference_dtypes)
    cast = management.unet_manual_cast(dtype, device, model_config.supported_inference_dtypes)
    model_config.set_inference_dtype(dtype, cast, device=device)
    model = comfy.model_base.BaseModel(model_config, model_type=kind)
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=management.unet_offload_device())
    converted = {names[name]: weight for name, weight in weights.items()}
    model.load_model_weights(converted, "", assign=patcher.is_dynamic())
    return patcher


def load_vae(folder: Path) -> comfy.sd.VAE:
    """The autoencoder as a VAE. Raises WeightsError for what is missing or damaged."""
    folder = require_model_folder(folder)
    config = _config(folder, "vae")
    widths = config["block_out_channels"]
    details = {
        "double_z": True, "z_channels": config["latent_channels"], "resolution": config["sample_size"], "in_channels": 3,
        "out_ch": 3, "ch": widths[0], "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"], "attn_resolutions": [], "dropout": 0.0,
    }
    weights = to_ldm_vae(_weights(folder, "vae"), stages=len(widths))
    vae = comfy.sd.VAE(sd=weights, config={"params": {"ddconfig": details, "embed_dim": config["latent_channels"]}})
    vae.latent_channels = config["latent_channels"]
    vae.downscale_ratio = vae.upscale_ratio = _vae_scale(config)
    return vae


class _TextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP has the vocabulary of OpenAI's; this one has its own size."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        self.text_model.embeddings = comfy.clip_model.CLIPEmbeddings(
            config["hidden_size"], config["vocab_size"], config["max_position_embeddings"], dtype, device, operations)


def load_clip(folder: Path) -> comfy.sd.CLIP:
    """Text encoder and tokenizer as a CLIP. Raises WeightsError for what is missing or damaged."""
    folder = require_model_folder(folder)
    config, window = _config(folder, "text_encoder"), _config(folder, "text_encoder")["max_position_embeddings"]
    width = config["hidden_size"]

    class Encoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
            special = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
            super().__init__(
                device=device, dtype=dtype, model_options=model_options or {}, textmodel_json_config=dict(config),
                model_class=_TextModel, max_length=window, special_tokens=special, return_projected_pooled=False)

    class Tokens(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
            super().__init__(
                str(folder / "tokenizer"), max_length=window, embedding_directory=embedding_directory,
                embedding_size=width, pad_token=config["pad_token_id"], tokenizer_data=tokenizer_data or {})

    class Clip(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
            super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=Encoder)

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
            super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=Tokens)

    weights = _weights(folder, "text_encoder", "model")
    weights = {name if name.startswith("text_model.") else f"text_model.{name}": w for name, w in weights.items()}
    target = comfy.supported_models_base.ClipTarget(Tokenizer, Clip)
    clip = comfy.sd.CLIP(
        target, embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(w.numel() for w in weights.values()))
    missing, _ = clip.load_sd(weights)
    # CLIP's pooled projection plays no part in a UNet without pooled input.
    if missing := [name for name in missing if "text_projection" not in name]:
        raise WeightsError(f"{folder / 'text_encoder'} lacks {missing[:3]}; copy the model folder again")
    return clip
