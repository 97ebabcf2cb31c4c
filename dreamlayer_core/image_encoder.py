"""CLIP's embedding of a picture, by a folder of transformers: what an IP-Adapter goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from .errors import WeightsError
from .loading import damage, quiet
from .model_files import read_config
from .safetensors_files import about
from .tensor_checks import check_values, some_names

__all__ = ["clip_pixels", "embed_picture", "load_image_encoder"]

# Of CLIP's own pictures (Radford et al. 2021).
_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_image_encoder(
    folder: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> CLIPVisionModelWithProjection:
    """A folder with ``config.json`` and ``model.safetensors``. WeightsError for what is missing or another model."""
    kind = str(read_config(folder / "config.json").get("model_type"))
    if kind != "clip_vision_model":
        raise WeightsError(f"{folder}: a model of type {kind}; give a folder with a CLIP vision model that projects")
    with quiet(), damage(folder):
        model, info = cast(Any, CLIPVisionModelWithProjection).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=dtype)
    if missing := sorted(cast("list[str]", info["missing_keys"])):
        raise WeightsError(f"{folder}: missing {some_names(missing)}; fetch the whole folder again")
    with about(folder):
        check_values(dict(model.named_parameters()))
    return model.to(device).eval().requires_grad_(False)


def clip_pixels(picture: Tensor, side: int) -> Tensor:
    """A picture (3, h, w) in [0, 1] as CLIP sees it, (1, 3, side, side): the middle square, normalised."""
    height, width = picture.shape[-2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    small = functional.interpolate(picture[None].float(), size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((long - side) // 2 for long in size)
    mean, spread = (small.new_tensor(values)[:, None, None] for values in (_MEAN, _SPREAD))
    return (small[..., top : top + side, left : left + side] - mean) / spread


@torch.no_grad()
def embed_picture(encoder: CLIPVisionModelWithProjection, picture: Tensor) -> Tensor:
    """The projected embedding (1, e), fp32, of a picture (3, h, w) in [0, 1]."""
    model = cast(Any, encoder)
    pixels = clip_pixels(picture, int(model.config.image_size)).to(model.device, model.dtype)
    return cast(Tensor, model(pixels).image_embeds).float()
