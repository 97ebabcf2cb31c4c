"""Loading a base model's folder with diffusers and transformers: local, whole safetensors files only."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from .errors import WeightsError
from .model_files import read_config
from .safetensors_files import about
from .tensor_checks import check_values, some_names

__all__ = ["BaseModels", "load_base"]

# What the two libraries raise for files that are missing, truncated, damaged or of another model.
_LOADING = (OSError, ValueError, RuntimeError, TypeError, AttributeError, LookupError, SafetensorError)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseModels:
    """The models of a base, frozen and in evaluation mode."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer


def load_base(folder: Path, dtype: torch.dtype, device: str | torch.device) -> BaseModels:
    """Load ``unet``, ``vae``, ``text_encoder`` and ``tokenizer`` from a folder. Raises WeightsError naming the part.

    The two libraries fill weights that a file lacks with random ones, and a tokenizer without a vocabulary with three
    tokens; here both are errors.
    """
    with _quiet():
        text_encoder = _load(CLIPTextModel, folder / "text_encoder", dtype=dtype)
        models = BaseModels(
            unet=_load(UNet2DConditionModel, folder / "unet", torch_dtype=dtype).to(device),
            vae=_load(AutoencoderKL, folder / "vae", torch_dtype=dtype).to(device),
            text_encoder=text_encoder.to(device),
            tokenizer=_load_tokenizer(folder / "tokenizer", int(text_encoder.config.vocab_size)),
        )
    _check_channels(folder, models)
    return models


def _load(kind: type[Any], folder: Path, **dtype: torch.dtype) -> Any:
    read_config(folder / "config.json")  # diffusers takes what is no object for the name of a model to fetch
    with _damage(folder):
        model, info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **dtype)
    if missing := sorted(cast("list[str]", info["missing_keys"])):
        raise WeightsError(
            f"{folder}: missing {some_names(missing)}; the file is incomplete or its config.json of another model: "
            "fetch or export it again")
    with about(folder):
        check_values(dict(model.named_parameters()))
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path, vocabulary: int) -> CLIPTokenizer:
    present = {path.name for path in folder.iterdir()}
    if "tokenizer.json" not in present and not {"vocab.json", "merges.txt"} <= present:
        raise WeightsError(f"{folder}: no tokenizer.json, nor vocab.json with merges.txt; fetch or export it again")
    with _damage(folder):
        tokenizer = cast(Any, CLIPTokenizer).from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > vocabulary:
        raise WeightsError(
            f"{folder}: {len(tokenizer)} tokens, but the text encoder knows {vocabulary}; take both from one model")
    return tokenizer


def _check_channels(folder: Path, models: BaseModels) -> None:
    unet, vae, text = cast(Any, models.unet.config), cast(Any, models.vae.config), models.text_encoder.config
    if unet.in_channels != vae.latent_channels or unet.out_channels != vae.latent_channels:
        raise WeightsError(
            f"{folder}: a UNet from {unet.in_channels} to {unet.out_channels} channels for a VAE of "
            f"{vae.latent_channels}; give a text-to-image model (not one for inpainting or editing)")
    if unet.cross_attention_dim != text.hidden_size:
        raise WeightsError(
            f"{folder}: a UNet for text embeddings of {unet.cross_attention_dim} channels, but the text encoder makes "
            f"{text.hidden_size}; take both from one model")


@contextmanager
def _damage(folder: Path) -> Generator[None]:
    try:
        yield
    except _LOADING as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{folder}: cannot be loaded ({reason}); fetch or export it again") from error


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' progress bar, which would run into ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
