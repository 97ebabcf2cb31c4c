"""Tiny but complete models for the tests: the real classes, with seeded random weights, in fp32.

`tiny_model` writes a model folder in the layout of the embedded one. The parts can also be had alone.
`tests/conftest.py` has fixtures that write and load the folder once a session.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.diffusers_unet import kv_projections
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayeredEmbedding, TokenSpan
from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig
from dreamlayer_core.weights import Adapter, AdapterSettings, save_adapter, save_transparent_decoder

CHANNELS = 32  # of the text embeddings, and of every stage
LATENT_SIDE = 16  # default size 64 px; the stages have sides of 16, 8, 4, 2
PIXELS_PER_CELL = 4
CACA_DOWNSCALE = 2
CONTEXT_THRESHOLD = 700  # T_G: four steps begin at 751, so that their first one fuses
CACA_SITE = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction"}


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Modules draw their first weights from torch's global generator: seed it, and put it back."""
    random = cast(Any, torch.random)
    with random.fork_rng(devices=[]):
        random.manual_seed(seed)
        yield


def tiny_unet(seed: int = 0) -> UNet2DConditionModel:
    """Four stages, cross-attention in the last three, as the embedded model's; J = 1."""
    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=LATENT_SIDE, block_out_channels=(CHANNELS,) * 4, layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
            up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
            cross_attention_dim=CHANNELS, attention_head_dim=2)
    return _sharpened(unet)


def sd15_shaped_unet(seed: int = 0) -> UNet2DConditionModel:
    """SD1.5's block structure with narrow blocks: cross-attention in the first three of four stages; J = 2."""
    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=LATENT_SIDE, block_out_channels=(32, 64, 64, 64), layers_per_block=2,
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            cross_attention_dim=CHANNELS, attention_head_dim=8)
    return _sharpened(unet)


def _sharpened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    # As initialised, attention is nearly uniform and adds little: what it does wrong would hardly be seen.
    for name, parameter in unet.named_parameters():
        if ".to_q." in name or ".to_k." in name or ".to_out." in name:
            parameter.data.mul_(3)
    return unet.eval().requires_grad_(False)


def tiny_vae(seed: int = 1) -> AutoencoderKL:
    """Four pixels per cell."""
    with seeded(seed):
        vae = cast(Any, AutoencoderKL)(
            block_out_channels=(32, 32, 32), layers_per_block=1, norm_num_groups=8, latent_channels=4,
            scaling_factor=0.5, sample_size=LATENT_SIDE * PIXELS_PER_CELL, down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3)
    return vae.eval().requires_grad_(False)


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte-level BPE without merges: a token a byte. Written to ``folder``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = cast(Any, CLIPTokenizer).from_pretrained(folder, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_text_encoder(tokenizer: CLIPTokenizer, seed: int = 2) -> CLIPTextModel:
    ids = cast(Any, tokenizer)
    config = CLIPTextConfig(
        vocab_size=len(ids), hidden_size=CHANNELS, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=CHANNELS, max_position_embeddings=77,
        bos_token_id=ids.bos_token_id, eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id)
    with seeded(seed):
        encoder = cast(Any, CLIPTextModel(config))
        encoder.get_input_embeddings().weight.data.normal_()  # else all tokens are nearly alike
    return encoder.eval().requires_grad_(False)


def tiny_decoder(seed: int = 3) -> TransparentDecoder:
    config = TransparentDecoderConfig(
        widths=(8, 8, 16, 16), layers_per_block=1, attention_blocks=1, latent_block=2, norm_groups=4, head_dim=8)
    with seeded(seed):
        decoder = TransparentDecoder(config)
        nn.init.normal_(decoder.latent_conv_in.weight, std=0.3)
        nn.init.constant_(cast(Tensor, decoder.conv_out.bias), 0.5)  # alphas around one half
    return decoder.eval().requires_grad_(False)


def tiny_adapter(
    unet: UNet2DConditionModel, *, seed: int = 4, noise: float = 0.5, num_context_layers: int = 2,
    downscale: int = CACA_DOWNSCALE, context_features: int = CHANNELS, prediction_type: str = "v_prediction",
) -> Adapter:
    """K and V of the base, moved off by ``noise`` of their own spread; the rest random, and zero without noise."""
    with seeded(seed):
        settings = AdapterSettings(
            base_family="tiny", cross_attention_dim=CHANNELS, context_features=context_features,
            num_context_layers=num_context_layers, slots=4, context_hidden=16, context_heads=2,
            caca_downscale=downscale, context_threshold=CONTEXT_THRESHOLD, prediction_type=prediction_type)
        base = kv_projections(unet)
        module = LayerAdapter(settings, _moved(base, noise), _moved(base, noise))
        nn.init.normal_(module.layer_assign, std=noise)
        for name, parameter in module.context_layers.named_parameters():
            if ".output." in name:
                nn.init.normal_(parameter, std=noise)
    return module.weights()


def _moved(weights: dict[str, Tensor], noise: float) -> dict[str, Tensor]:
    return {name: w.detach() + noise * w.std() * torch.randn(w.shape) for name, w in weights.items()}


def tiny_embedding(foregrounds: Sequence[int], *, background: int = 0, tokens: int = 3) -> LayeredEmbedding:
    """Made-up embeddings of one stack, S = 40. Each layer's number is the seed of its contents."""
    def draw(seed: int, count: int) -> Tensor:
        return torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(1000 + seed))

    def framed(contents: Tensor) -> Tensor:
        return torch.cat([draw(-1, 1), contents, draw(-2, 1), draw(-3, 1).expand(40 - 2 - len(contents), -1)])

    contents = [draw(number, tokens) for number in (background, *foregrounds)]
    rows = [framed(one) for one in contents] + [framed(torch.cat(contents))]
    spans = tuple(TokenSpan(1 + index * tokens, tokens) for index in range(len(contents)))
    own_spans = (TokenSpan(1, tokens),) * len(contents)
    return LayeredEmbedding(torch.stack(rows), own_spans, spans, TokenSpan(spans[-1].stop, 0))


def tiny_model(folder: Path) -> Path:
    """Write a complete model folder, a tiny adapter with it, and return it."""
    unet, tokenizer = tiny_unet(), tiny_tokenizer(folder / "tokenizer")
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1, **cast(Any, SCHEDULE))
    parts: dict[str, Any] = {
        "unet": unet, "vae": tiny_vae(), "text_encoder": tiny_text_encoder(tokenizer), "scheduler": scheduler}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    save_transparent_decoder(tiny_decoder(), folder / "layer_decoder.safetensors")
    save_adapter(tiny_adapter(unet), folder / "adapter.safetensors")
    return folder


def tiny_pipeline(folder: Path) -> DreamLayer:
    """The pipeline of a folder that ``tiny_model`` has written."""
    return DreamLayer.from_files(folder)
