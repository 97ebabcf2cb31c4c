"""Parts of a checkpoint in the original (ldm) layout as models of diffusers and transformers.

What a family has in common stands in its `Family`; widths are read from the tensors, and every other name and shape must then be
exactly what a model of that structure has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .errors import WeightsError
from .loading import build, vae_dtype
from .tensor_checks import some_names

__all__ = ["SD1", "SD2", "SDXL", "UNET_PREFIX", "VAE_PREFIX", "Family", "TextPart", "make_text_model", "make_unet", "make_vae",
           "text_config", "text_tensors", "unet_config", "unet_tensors", "vae_config", "vae_tensors"]

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
_HEAD_WIDTH = 64  # of CLIP's text encoders, and of SD2's and SDXL's UNets
_SIZE_FEATURES = 256  # of each of the six numbers of a picture's size (SDXL)
_TOLD_GUIDANCE = "time_embedding.cond_proj.weight"  # of latent consistency models
_RESNETS = 2  # of each stage, in all families and in the VAE
_VAE_STAGES = 4
# Buffers and leftovers of training that mean nothing to the models.
_IGNORED = ("position_ids", "logit_scale", "attn_mask", "model_ema.", "loss.")


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """Where a text encoder is in a checkpoint, and how it is read."""

    prefixes: tuple[str, ...]  # of the same thing, by who saved it
    open_clip: bool = False  # in OpenCLIP's layout and with its activation and pad
    layers: int | None = None  # that are read, with the final norm after them: files may have SD2's last one or not
    penultimate: bool = False  # the layer before the last, without the final norm (SDXL)
    pooled: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """The structure that the checkpoints of one base share."""

    name: str
    depths: tuple[int, ...]  # transformer blocks of each stage's attention; 0 is a stage without cross-attention
    heads: int | None  # of every attention layer; None: as many as heads of 64 channels fit
    linear_projection: bool
    sized: bool = False  # told a picture's size and a pooled text
    latent_side: int  # cells of its own pictures
    scaling_factor: float
    vae_overflows: bool = False  # in fp16
    texts: tuple[TextPart, ...]


SD1 = Family(
    name="SD1", depths=(1, 1, 1, 0), heads=8, linear_projection=False, latent_side=64, scaling_factor=0.18215,
    texts=(TextPart(prefixes=("cond_stage_model.transformer.",)),))
SD2 = Family(
    name="SD2", depths=(1, 1, 1, 0), heads=None, linear_projection=True, latent_side=64, scaling_factor=0.18215,
    texts=(TextPart(prefixes=("cond_stage_model.model.", "conditioner.embedders.0.model."), open_clip=True, layers=23),))
SDXL = Family(
    name="SDXL", depths=(0, 2, 10), heads=None, linear_projection=True, sized=True, latent_side=128, scaling_factor=0.13025,
    vae_overflows=True, texts=(
        TextPart(prefixes=("conditioner.embedders.0.transformer.",), penultimate=True),
        TextPart(prefixes=("conditioner.embedders.1.model.",), open_clip=True, penultimate=True, pooled=True)))


def make_unet(tensors: Mapping[str, Tensor], family: Family, dtype: torch.dtype, latent_side: int) -> UNet2DConditionModel:
    """The UNet among a checkpoint's tensors. WeightsError naming what does not belong to the family's structure."""
    named = unet_tensors(tensors, family)
    return build(UNet2DConditionModel, {**unet_config(named, family), "sample_size": latent_side}, named, dtype)


def unet_tensors(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The tensors of a checkpoint's UNet under diffusers' names. WeightsError where the conversion misses one."""
    own = _part(tensors, UNET_PREFIX)
    conversion = {"layers_per_block": _RESNETS, "addition_embed_type": "text_time" if family.sized else None}
    try:
        named = cast("dict[str, Tensor]", convert_ldm_unet_checkpoint(own, conversion))
    except KeyError as error:
        raise WeightsError(f"missing {UNET_PREFIX}{error.args[0]}; the file is incomplete, or no {family.name} model") from error
    for name in (_TOLD_GUIDANCE, "time_embed.cond_proj.weight"):  # which the conversion leaves out; most files have diffusers' name
        if UNET_PREFIX + name in own:
            named[_TOLD_GUIDANCE] = own[UNET_PREFIX + name]
    return named


def unet_config(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Any]:
    """The config of a family's UNet with the widths of these tensors, which have diffusers' names."""
    stages, crossed = range(len(family.depths)), [depth > 0 for depth in family.depths]
    widths = [_side(tensors, f"down_blocks.{stage}.resnets.0.conv1.weight", 0) for stage in stages]
    first = f"down_blocks.{crossed.index(True)}.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    config: dict[str, Any] = {
        "in_channels": _side(tensors, "conv_in.weight", 1), "out_channels": _side(tensors, "conv_out.weight", 0),
        "block_out_channels": widths, "layers_per_block": _RESNETS, "cross_attention_dim": _side(tensors, first, 1),
        "down_block_types": ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crossed)],
        "transformer_layers_per_block": [max(depth, 1) for depth in family.depths],
        "attention_head_dim": family.heads or [max(width // _HEAD_WIDTH, 1) for width in widths],
        "use_linear_projection": family.linear_projection,
    }
    if _TOLD_GUIDANCE in tensors:
        config["time_cond_proj_dim"] = _side(tensors, _TOLD_GUIDANCE, 1)
    if family.sized:
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": _SIZE_FEATURES,
                   "projection_class_embeddings_input_dim": _side(tensors, "add_embedding.linear_1.weight", 1)}
    return config


def make_vae(tensors: Mapping[str, Tensor], family: Family, dtype: torch.dtype) -> AutoencoderKL:
    """The VAE among the tensors of a checkpoint, or of a file of its own, in ldm's layout or diffusers'. WeightsError."""
    named = vae_tensors(tensors)
    config = vae_config(named, family)
    return build(AutoencoderKL, config, named, vae_dtype(dtype, config["force_upcast"]))


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a VAE under diffusers' names, from either layout."""
    own = {name.removeprefix(VAE_PREFIX): tensor for name, tensor in _part(tensors, VAE_PREFIX).items()} or _wanted(tensors)
    if any(name.startswith("encoder.down_blocks.") for name in own):
        return own
    stages = {"down_block_types": [""] * _VAE_STAGES, "up_block_types": [""] * _VAE_STAGES}  # it counts them
    return cast("dict[str, Tensor]", convert_ldm_vae_checkpoint({VAE_PREFIX + name: tensor for name, tensor in own.items()}, stages))


def vae_config(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Any]:
    """The config of a family's VAE with the widths of these tensors, which have diffusers' names."""
    widths = [_side(tensors, f"encoder.down_blocks.{stage}.resnets.0.conv1.weight", 0) for stage in range(_VAE_STAGES)]
    return {
        "block_out_channels": widths, "layers_per_block": _RESNETS, "latent_channels": _side(tensors, "decoder.conv_in.weight", 1),
        "down_block_types": ["DownEncoderBlock2D"] * _VAE_STAGES, "up_block_types": ["UpDecoderBlock2D"] * _VAE_STAGES,
        "scaling_factor": family.scaling_factor, "force_upcast": family.vae_overflows,
        "sample_size": family.latent_side * 2 ** (_VAE_STAGES - 1),
    }


def make_text_model(tensors: Mapping[str, Tensor], part: TextPart, dtype: torch.dtype) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A text encoder among a checkpoint's tensors. WeightsError naming what is missing or unexpected."""
    named = text_tensors(tensors, part)
    config = text_config(named, part)
    kind = CLIPTextModelWithProjection if part.pooled else CLIPTextModel
    if not part.pooled and not _has_prefix():
        named = {name.removeprefix("text_model."): tensor for name, tensor in named.items()}
    return build(kind, {"config": config}, named, dtype)


def text_tensors(tensors: Mapping[str, Tensor], part: TextPart) -> dict[str, Tensor]:
    """The tensors of a text encoder under transformers' names, all but the projection under ``text_model.``. WeightsError."""
    prefix = next((one for one in part.prefixes if any(name.startswith(one) for name in tensors)), None)
    if prefix is None:
        raise WeightsError(f"no text encoder ({part.prefixes[0]}…) in it; give a whole checkpoint")
    own = _part(tensors, prefix)
    named = _from_open_clip(own, prefix, part) if part.open_clip else _from_clip(own)
    if not part.pooled:
        named.pop("text_projection.weight", None)
    return named


def _has_prefix() -> bool:
    """Whether CLIPTextModel has its parts under ``text_model.``, as before transformers 5.6."""
    with torch.device("meta"):
        return hasattr(CLIPTextModel(cast(Any, CLIPTextConfig)(num_hidden_layers=1)), "text_model")


def _from_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = cast("dict[str, Tensor]", convert_ldm_clip_checkpoint(dict(tensors)))
    # early merges have lost the inner prefix
    return {name if name.startswith("text_") else f"text_model.{name}": tensor for name, tensor in named.items()}


def _from_open_clip(tensors: Mapping[str, Tensor], prefix: str, part: TextPart) -> dict[str, Tensor]:
    unread = None if part.layers is None else f"{prefix}transformer.resblocks.{part.layers}."
    kept = {name: tensor for name, tensor in tensors.items() if unread is None or not name.startswith(unread)}
    # the conversion asks a model only for its width
    width = SimpleNamespace(config=SimpleNamespace(hidden_size=_side(tensors, f"{prefix}positional_embedding", 1)))
    return cast("dict[str, Tensor]", convert_open_clip_checkpoint(width, kept, prefix=prefix))


def text_config(tensors: Mapping[str, Tensor], part: TextPart) -> CLIPTextConfig:
    """The config of a text encoder with the widths of these tensors, as `text_tensors` names them."""
    words, first = "text_model.embeddings.token_embedding.weight", "text_model.encoder.layers.0.mlp.fc1.weight"
    vocabulary, width = _side(tensors, words, 0), _side(tensors, words, 1)
    return cast(Any, CLIPTextConfig)(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=_side(tensors, first, 0),
        num_hidden_layers=part.layers or sum(name.endswith(".mlp.fc1.weight") for name in tensors),
        num_attention_heads=max(width // _HEAD_WIDTH, 1), hidden_act="gelu" if part.open_clip else "quick_gelu",
        max_position_embeddings=_side(tensors, "text_model.embeddings.position_embedding.weight", 0),
        projection_dim=_side(tensors, "text_projection.weight", 0) if part.pooled else width,
        # the vocabulary ends with [SOS] and [EOS]
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=0 if part.open_clip else vocabulary - 1)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return _wanted({name: tensor for name, tensor in tensors.items() if name.startswith(prefix)})


def _wanted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not any(part in name for part in _IGNORED)}


def _side(tensors: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in tensors or tensors[name].ndim <= axis:
        raise WeightsError(f"missing {some_names([name])}; the file is incomplete or made for another model")
    return int(tensors[name].shape[axis])
