"""Tiny models of SD1's, SD2's and SDXL's structure, and their weights under the published names of the original layout.

The names are put together here, independently of the conversion that the core uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig
from dreamlayer_core.weights import save_transparent_decoder

from .tiny import seeded, tiny_tokenizer

Name = Literal["SD1", "SD2", "SDXL"]
NAMES: tuple[Name, ...] = ("SD1", "SD2", "SDXL")
WORDS = 514  # of the tiny tokenizer: bytes, and [SOS] and [EOS] as its last two
TEXT = 64  # channels of each text encoder: one head
SIDE = 8  # cells of the tiny pictures

# Configs of the published models; `tiny` narrows them.
PUBLISHED: dict[Name, dict[str, Any]] = {
    "SD1": {
        "sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": 8, "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]},
    "SD2": {
        "sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "use_linear_projection": True,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]},
    "SDXL": {
        "sample_size": 128, "block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
        "use_linear_projection": True, "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"], "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816},
}
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
_TINY: dict[Name, dict[str, Any]] = {
    "SD1": {"block_out_channels": [32] * 4, "attention_head_dim": 8, "cross_attention_dim": TEXT},
    "SD2": {"block_out_channels": [64] * 4, "attention_head_dim": [1] * 4, "cross_attention_dim": TEXT},
    "SDXL": {"block_out_channels": [32, 64, 64], "attention_head_dim": [1] * 3, "cross_attention_dim": 2 * TEXT,
             "projection_class_embeddings_input_dim": TEXT + 6 * 256},
}
SCALES = {"SD1": 0.18215, "SD2": 0.18215, "SDXL": 0.13025}


@dataclass(frozen=True, kw_only=True, eq=False)
class TinyBase:
    """The models of a base; ``second`` is SDXL's text encoder with a pooled vector."""

    name: Name
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    first: CLIPTextModel
    second: CLIPTextModelWithProjection | None

    def checkpoint(self) -> dict[str, Tensor]:
        """Its weights under the names of a published single file."""
        encoders = {
            "SD1": [clip_names(self.first, "cond_stage_model.transformer.")],
            "SD2": [open_clip_names(self.first, "cond_stage_model.model.", unused_layer=True)],
            "SDXL": [clip_names(self.first, "conditioner.embedders.0.transformer."),
                     {} if self.second is None else open_clip_names(self.second, "conditioner.embedders.1.model.")],
        }[self.name]
        parts = [ldm_unet_names(state(self.unet), "model.diffusion_model."), ldm_vae_names(state(self.vae), "first_stage_model."), *encoders]
        return {name: tensor.contiguous() for part in parts for name, tensor in part.items()}

    def save_folder(self, folder: Path, prediction: str = "epsilon") -> Path:
        """In diffusers' layout, with the tiny tokenizer."""
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=cast(Any, prediction))
        parts: dict[str, Any] = {"unet": self.unet, "vae": self.vae, "text_encoder": self.first, "scheduler": scheduler}
        _save_tokenizer(folder / "tokenizer", padded_with_zero=self.name == "SD2")
        if self.second is not None:
            parts["text_encoder_2"] = self.second
            _save_tokenizer(folder / "tokenizer_2", padded_with_zero=True)
        for name, part in parts.items():
            part.save_pretrained(folder / name)
        return folder


def tiny_base(name: Name, seed: int = 0) -> TinyBase:
    with seeded(seed):
        unet = UNet2DConditionModel(**{**PUBLISHED[name], **_TINY[name], "sample_size": SIDE})
        vae = cast(Any, AutoencoderKL)(**{
            **VAE, "block_out_channels": [32] * 4, "sample_size": 8 * SIDE, "scaling_factor": SCALES[name], "force_upcast": name == "SDXL"})
        first = CLIPTextModel(_text_config("gelu", layers=23) if name == "SD2" else _text_config("quick_gelu"))
        second = CLIPTextModelWithProjection(_text_config("gelu")) if name == "SDXL" else None
        for model in (first, second):
            if model is not None:
                cast(Any, model).get_input_embeddings().weight.data.normal_()  # else all tokens are nearly alike
                for parameter in model.parameters():
                    parameter.data += 0.02 * torch.randn(parameter.shape)
    frozen: list[Any] = [None if m is None else m.eval().requires_grad_(False) for m in (unet, vae, first, second)]
    return TinyBase(name=name, unet=frozen[0], vae=frozen[1], first=frozen[2], second=frozen[3])


def _save_tokenizer(folder: Path, *, padded_with_zero: bool) -> None:
    tokenizer = cast(Any, tiny_tokenizer(folder))
    if padded_with_zero:
        tokenizer.pad_token = "!"
        tokenizer.save_pretrained(folder)


def _text_config(activation: str, layers: int = 3) -> CLIPTextConfig:
    return cast(Any, CLIPTextConfig)(
        vocab_size=WORDS, hidden_size=TEXT, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=1, projection_dim=TEXT,
        max_position_embeddings=77, hidden_act=activation, bos_token_id=WORDS - 2, eos_token_id=WORDS - 1, pad_token_id=0)


def save_checkpoint(tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None = None, **metadata: str) -> Path:
    """As a safetensors file, floating-point tensors in ``dtype``."""
    kept = {name: t.to(dtype) if dtype and t.is_floating_point() else t for name, t in tensors.items()}
    save_file({name: t.clone() for name, t in kept.items()}, path, {"format": "pt", **{k.replace("__", "."): v for k, v in metadata.items()}})
    return path


def save_decoder(path: Path) -> Path:
    """A transparent decoder for VAEs of eight pixels per cell."""
    config = TransparentDecoderConfig(
        widths=(8, 8, 16, 16, 16), layers_per_block=1, attention_blocks=1, latent_block=3, norm_groups=4, head_dim=8)
    with seeded(3):
        decoder = TransparentDecoder(config)
        nn.init.normal_(decoder.latent_conv_in.weight, std=0.3)
        nn.init.constant_(cast(Tensor, decoder.conv_out.bias), 0.5)
    save_transparent_decoder(decoder, path)
    return path


def state(model: Any) -> dict[str, Tensor]:
    return dict(model.state_dict())


# ---- names of the original layout

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
           "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}


def ldm_unet_names(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    crossed = {name.split(".")[1] for name in tensors if re.match(r"up_blocks\.\d\.attentions", name)}
    return {prefix + _ldm_unet_name(name, crossed): tensor for name, tensor in tensors.items()}


def _ldm_unet_name(name: str, crossed: set[str]) -> str:
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv(.*)", name):
        return f"input_blocks.{3 * int(found[1]) + 3}.0.op{found[2]}"
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv(.*)", name):
        return f"output_blocks.{3 * int(found[1]) + 2}.{2 if found[1] in crossed else 1}.conv{found[2]}"
    found = re.match(r"(down|up|mid)_blocks?\.(?:(\d)\.)?(resnets|attentions)\.(\d)\.(.*)", name)
    assert found, name
    where, stage, kind, index, rest = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
    attention = int(kind == "attentions")
    if not attention:
        first, dot, last = rest.partition(".")
        rest = _RESNET[first] + dot + last
    if where == "mid":
        return f"middle_block.{1 if attention else 2 * index}.{rest}"
    place = f"input_blocks.{3 * stage + index + 1}" if where == "down" else f"output_blocks.{3 * stage + index}"
    return f"{place}.{attention}.{rest}"


_VAE_WORDS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"), (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"), (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"), ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"), ("group_norm", "norm"), (r"to_out\.0", "proj_out"), (r"to_([qkv])\.", r"\1.")]


def ldm_vae_names(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    named = dict[str, Tensor]()
    for name, tensor in tensors.items():
        matrix = ".attentions." in name and tensor.ndim == 2
        for pattern, word in _VAE_WORDS:
            name = re.sub(pattern, word, name)
        named[prefix + name] = tensor[:, :, None, None] if matrix else tensor  # 1x1 convolutions there
    return named


def clip_names(model: Any, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state(model).items()}


_BLOCK = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}


def open_clip_names(model: Any, prefix: str, *, unused_layer: bool = False) -> dict[str, Tensor]:
    """``unused_layer``: one more, which SD2 leaves out, and a projection, which it has no use for."""
    own = {name.removeprefix("text_model."): tensor for name, tensor in state(model).items()}
    count = sum(name.endswith(".mlp.fc1.weight") for name in own)
    named = {"positional_embedding": own["embeddings.position_embedding.weight"],
             "token_embedding.weight": own["embeddings.token_embedding.weight"],
             **{f"ln_final.{kind}": own[f"final_layer_norm.{kind}"] for kind in ("weight", "bias")}}
    for layer in range(count):
        source, target = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            named |= {f"{target}{theirs}.{kind}": own[f"{source}{ours}.{kind}"] for ours, theirs in _BLOCK.items()}
            named[f"{target}attn.in_proj_{kind}"] = torch.cat([own[f"{source}self_attn.{p}_proj.{kind}"] for p in "qkv"])
    if unused_layer:
        last = {name: t for name, t in named.items() if f"resblocks.{count - 1}." in name}
        named |= {name.replace(f"resblocks.{count - 1}.", f"resblocks.{count}."): t + 1 for name, t in last.items()}
    projection = own.get("text_projection.weight", torch.eye(own["embeddings.position_embedding.weight"].shape[1]).to(own["final_layer_norm.bias"]))
    return {prefix + name: tensor for name, tensor in {**named, "text_projection": projection.T}.items()}
