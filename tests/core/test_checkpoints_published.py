"""The published structure of SD1, SD2 and SDXL, name by name and shape by shape, without memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreamlayer_core.checkpoint_parts import (
    SD1,
    SD2,
    SDXL,
    text_config,
    text_tensors,
    unet_config,
    unet_tensors,
    vae_config,
    vae_tensors,
)
from dreamlayer_core.checkpoints import find_family
from dreamlayer_core.tensor_checks import check_shapes

from .tiny_checkpoints import (
    NAMES,
    PUBLISHED,
    VAE,
    Name,
    TinyBase,
    clip_names,
    ldm_unet_names,
    ldm_vae_names,
    open_clip_names,
    state,
    tiny_base,
)

FAMILIES = {"SD1": SD1, "SD2": SD2, "SDXL": SDXL}
UNET = "model.diffusion_model."

# Millions of parameters of the UNets and text encoders, and names with shapes, as they are published.
MILLIONS = {"SD1": (859.52, [123.06]), "SD2": (865.91, [340.39]), "SDXL": (2567.46, [123.06, 694.66])}
SOME_SHAPES: dict[Name, dict[str, tuple[int, ...]]] = {
    "SD1": {
        f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 768),
        f"{UNET}output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1), f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "first_stage_model.decoder.up.1.block.0.nin_shortcut.weight": (256, 512, 1, 1),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768)},
    "SD2": {
        f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320), f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_v.weight": (1280, 1024),
        "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
        "cond_stage_model.model.positional_embedding": (77, 1024)},
    "SDXL": {
        f"{UNET}input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048), f"{UNET}label_emb.0.0.weight": (1280, 2816),
        f"{UNET}output_blocks.5.2.conv.weight": (640, 640, 3, 3), f"{UNET}input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
        "conditioner.embedders.1.model.transformer.resblocks.31.mlp.c_fc.weight": (5120, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280)},
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu"}
_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu"}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "hidden_act": "gelu",
           "projection_dim": 1280}
TEXTS = {"SD1": [_CLIP_L], "SD2": [_CLIP_H], "SDXL": [_CLIP_L, _CLIP_G]}


def published(name: Name) -> tuple[Any, Any, list[Any]]:
    """The published models, without memory."""
    with torch.device("meta"):
        texts = [(CLIPTextModelWithProjection if c is _CLIP_G else CLIPTextModel)(
            cast(Any, CLIPTextConfig)(**c, vocab_size=49408, max_position_embeddings=77)) for c in TEXTS[name]]
        return cast(Any, UNet2DConditionModel)(**PUBLISHED[name]), cast(Any, AutoencoderKL)(**VAE), texts


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_published_structure_is_taken_name_by_name(name: Name) -> None:
    unet, vae, texts = published(name)
    base, family = TinyBase(name=name, unet=unet, vae=vae, first=texts[0], second=texts[1] if len(texts) > 1 else None), FAMILIES[name]
    with torch.device("meta"):
        tensors = base.checkpoint()
    assert shapes(tensors).items() >= SOME_SHAPES[name].items()
    millions, text_millions = MILLIONS[name]
    assert round(sum(t.numel() for t in state(unet).values()) / 1e6, 2) == millions
    assert [round(sum(t.numel() for t in state(text).values()) / 1e6, 2) for text in texts] == text_millions
    assert find_family(tensors) is family
    named = unet_tensors(tensors, family)
    config = unet_config(named, family)
    check_shapes(named, shapes(state(unet)))
    wanted = {"transformer_layers_per_block": [1] * 4, **PUBLISHED[name]}
    assert {key: config[key] for key in wanted if key != "sample_size"} == {k: v for k, v in wanted.items() if k != "sample_size"}
    assert family.latent_side == PUBLISHED[name]["sample_size"]
    check_shapes(vae_tensors(tensors), shapes(state(vae)))
    assert vae_config(vae_tensors(tensors), family).items() >= VAE.items()
    for part, text, config in zip(family.texts, texts, TEXTS[name], strict=True):
        found = text_tensors(tensors, part)
        check_shapes({n.removeprefix("text_model."): t for n, t in found.items()},
                     {n.removeprefix("text_model."): s for n, s in shapes(state(text)).items()})
        assert text_config(found, part).to_dict().items() >= {**config, "vocab_size": 49408}.items()


def test_no_two_tensors_come_to_one_name() -> None:
    base = tiny_base("SDXL")
    assert len(ldm_unet_names(state(base.unet), "")) == len(state(base.unet))
    assert len(ldm_vae_names(state(base.vae), "")) == len(state(base.vae))
    assert len(clip_names(base.first, "")) == len(state(base.first))
    # three matrices and three biases of each of three layers become one each
    assert len(open_clip_names(base.second, "")) == len(state(base.second)) - 3 * 4
