"""What loading a base model needs, be it from a folder or from one file: its models together, and errors with a path."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs]
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from .errors import WeightsError
from .schedule import NoiseSchedule
from .tensor_checks import check_shapes, check_values
from .text_encoders import TextEncoders

__all__ = ["BaseModels", "BaseSource", "build", "check_text_to_image", "damage", "quiet", "vae_dtype"]

# What the two libraries raise for files that are missing, truncated, damaged or of another model.
_LOADING = (OSError, ValueError, RuntimeError, TypeError, AttributeError, LookupError, SafetensorError)

_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseModels:
    """The models of a base, frozen and in evaluation mode."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: TextEncoders
    tokenizer: CLIPTokenizer


class BaseSource(Protocol):
    """A base model that has been looked at, and not yet loaded."""

    @property
    def schedule(self) -> NoiseSchedule: ...
    @property
    def family(self) -> str | None:
        """The name under which adapters are made for it; None for a shape without a name."""
        ...

    def load(self, dtype: torch.dtype, device: str | torch.device) -> BaseModels:
        """Raises WeightsError naming the part that is missing, damaged or of another model."""
        ...


def build(kind: type[_Model], config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> _Model:
    """A model of this config with exactly these weights, frozen. WeightsError naming what is missing, unexpected or misshapen."""
    with init_empty_weights():
        model = cast(Any, kind)(**config)
    check_shapes(tensors, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    check_values(tensors)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def check_text_to_image(unet: Mapping[str, Any], latent_channels: int, text_width: int) -> None:
    """Is a UNet of this config one from text to pictures, for this VAE and these text encoders? WeightsError if not."""
    channels, out = int(unet["in_channels"]), int(unet["out_channels"])
    if channels != latent_channels or out != latent_channels:
        purpose = {9: "inpainting", 8: "editing by instruction", 7: "upscaling", 5: "depth"}.get(channels, "another purpose")
        raise WeightsError(
            f"a UNet from {channels} to {out} channels for a VAE of {latent_channels}, as {purpose} has them; give a "
            "text-to-image model (not one for inpainting or editing)")
    if unet["cross_attention_dim"] != text_width:
        raise WeightsError(
            f"a UNet for text embeddings of {unet['cross_attention_dim']} channels, but the text encoder makes "
            f"{text_width}; take both from one model")
    if unet.get("addition_embed_type") not in (None, "text_time") or unet.get("class_embed_type") is not None:
        raise WeightsError("a UNet that is told more than text and size; give a checkpoint of SD1, SD2 or SDXL")


def vae_dtype(dtype: torch.dtype, force_upcast: object) -> torch.dtype:
    """fp32 where the VAE's values would overflow in fp16, as those of SDXL's first one do and as its config says."""
    return torch.float32 if dtype == torch.float16 and force_upcast is True else dtype


@contextmanager
def damage(path: Path, remedy: str = "fetch or export it again") -> Generator[None]:
    """What the libraries raise inside becomes a WeightsError that begins with the path and ends with the remedy."""
    try:
        yield
    except _LOADING as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: cannot be loaded ({reason}); {remedy}") from error


@contextmanager
def quiet() -> Generator[None]:
    """Without transformers' progress bar, which would run into ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
