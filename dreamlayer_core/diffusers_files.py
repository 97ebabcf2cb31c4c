"""Loading a base model's folder with diffusers and transformers: local, whole safetensors files only, unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .base_options import BaseOptions
from .checkpoint_parts import SD1, SDXL
from .checkpoints import Checkpoint, read_vae
from .errors import WeightsError
from .loading import BaseModels, BaseSource, check_text_to_image, damage, quiet, vae_dtype
from .model_files import base_family, read_config, read_schedule, require_base_folder
from .safetensors_files import about
from .tensor_checks import check_values, some_names
from .text_encoders import ClipEncoder, TextEncoders
from .tokenizer_files import PADDED_WITH_ZERO, cached_tokenizer, clip_tokens, load_tokenizer

__all__ = ["ModelFolder", "load_base", "open_base"]

_SECOND = "_2"  # of SDXL's second text encoder and its tokenizer


def open_base(path: Path, options: BaseOptions) -> BaseSource:
    """A folder in diffusers' layout or a checkpoint in one file, looked at. Raises WeightsError for what is neither."""
    return Checkpoint(path, options) if path.is_file() else ModelFolder(path, options)


def load_base(folder: Path, dtype: torch.dtype, device: str | torch.device) -> BaseModels:
    """The models of a folder. Raises WeightsError naming the part."""
    return ModelFolder(folder, BaseOptions()).load(dtype, device)


class ModelFolder:
    """A folder of SD1, SD2 or SDXL. Raises WeightsError for what is missing and for models that are not for layers.

    The two libraries fill weights that a file lacks with random ones; here that is an error.
    """

    def __init__(self, folder: Path, options: BaseOptions) -> None:
        self.folder, self._options = require_base_folder(folder, options), options
        self.schedule = read_schedule(self.folder, options.prediction)
        self.family = base_family(self.folder)
        self._sized = read_config(self.folder / "unet" / "config.json").get("addition_embed_type") == "text_time"
        if self._sized != (self.folder / f"text_encoder{_SECOND}").is_dir():
            raise WeightsError(
                f"{self.folder}: a UNet {'told' if self._sized else 'not told'} a pooled text, {'without' if self._sized else 'with'} "
                f"a text_encoder{_SECOND}; fetch or export the whole model again")

    def load(self, dtype: torch.dtype, device: str | torch.device) -> BaseModels:
        """Raises WeightsError naming the part that is missing, damaged or of another model."""
        with quiet():
            first = self._load(CLIPTextModel, "text_encoder", dtype=dtype)
            second = self._load(CLIPTextModelWithProjection, f"text_encoder{_SECOND}", dtype=dtype) if self._sized else None
            tokenizer = self._tokenizer(min(int(m.config.vocab_size) for m in (first, second) if m is not None))
            tokens = clip_tokens(tokenizer, int(first.config.max_position_embeddings))
            encoders = [ClipEncoder(first.to(device), tokens.pad_token_id, penultimate=self._sized)]
            if second is not None:
                encoders.append(ClipEncoder(second.to(device), self._second_pad(tokenizer), penultimate=True, pooled=True))
            unet = self._load(UNet2DConditionModel, "unet", torch_dtype=dtype)
            models = BaseModels(
                unet=unet.to(device), vae=self._vae(dtype).to(device), text_encoders=TextEncoders(tokens, encoders), tokenizer=tokenizer)
        with about(self.folder):
            check_text_to_image(
                cast(Any, models.unet.config), int(cast(Any, models.vae.config).latent_channels), models.text_encoders.width)
        return models

    def _load(self, kind: type[Any], part: str, **dtype: torch.dtype) -> Any:
        folder = self.folder / part
        read_config(folder / "config.json")  # diffusers takes what is no object for the name of a model to fetch
        with damage(folder):
            model, info = kind.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, variant=_variant(folder),
                use_safetensors=None if self._options.allow_pickle else True, **dtype)
        if missing := sorted(cast("list[str]", info["missing_keys"])):
            raise WeightsError(
                f"{folder}: missing {some_names(missing)}; the file is incomplete or its config.json of another model: "
                "fetch or export it again")
        with about(folder):
            check_values(dict(model.named_parameters()))
        return model.eval().requires_grad_(False)

    def _vae(self, dtype: torch.dtype) -> Any:
        if self._options.vae is not None:
            return read_vae(self._options.vae, SDXL if self._sized else SD1, dtype)
        upcast = read_config(self.folder / "vae" / "config.json").get("force_upcast")
        return self._load(AutoencoderKL, "vae", torch_dtype=vae_dtype(dtype, upcast))

    def _tokenizer(self, vocabulary: int) -> CLIPTokenizer:
        own = self.folder / "tokenizer"
        return load_tokenizer(self._options.tokenizer or (own if own.is_dir() else cached_tokenizer()), vocabulary)

    def _second_pad(self, tokenizer: CLIPTokenizer) -> int:
        """What the second encoder's windows are filled with. WeightsError where its tokens are others: spans would not be valid."""
        folder = self.folder / f"tokenizer{_SECOND}"
        if not folder.is_dir():
            return clip_tokens(tokenizer, 3, PADDED_WITH_ZERO).pad_token_id
        second = load_tokenizer(folder, len(cast(Any, tokenizer)))
        if cast(Any, second).get_vocab() != cast(Any, tokenizer).get_vocab():
            raise WeightsError(f"{folder}: other tokens than the first tokenizer's; take both from one model")
        return clip_tokens(second, 3).pad_token_id


def _variant(folder: Path) -> str | None:
    """"fp16" where a folder has its weights in that form alone."""
    names = {path.name for path in folder.glob("*.safetensors*")}
    halved = any(".fp16" in name for name in names)
    return "fp16" if halved and all(".fp16" in name or "non_ema" in name for name in names) else None
