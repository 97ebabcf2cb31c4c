"""The latents of rendered scenes, encoded once: training the UNet never waits for the VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from rich.progress import track

from ..errors import InputError
from .data import SceneCache

__all__ = ["LatentCache", "encode_scenes", "gray_filled"]

_NAMES = ("pictures", "backgrounds", "objects")


def gray_filled(objects: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating[Any]]:
    """Straight-alpha RGBA bytes (..., 4) painted on solid gray, in [-1,1]: gray 0.5 is 0 there (Eq. 2's target)."""
    rgba = objects / np.float32(255)
    return (rgba[..., :3] * 2 - 1) * rgba[..., 3:]


@torch.no_grad()
def encode_scenes(cache: SceneCache, vae: AutoencoderKL, folder: Path, *, batch: int = 16) -> None:
    """Encode every picture, background and object on gray to scaled latents (n, 4, h, w) fp16; parts that exist stay."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = float(cast(Any, vae).config["scaling_factor"])
    for name in _NAMES:
        target = folder / f"{name}.npy"
        source = getattr(cache, name)
        if target.exists() and len(np.load(target, mmap_mode="r")) == len(source):
            continue
        parts: list[npt.NDArray[np.float16]] = []
        for start in track(range(0, len(source), batch), description=f"encoding {name}"):
            chunk = source[start : start + batch]
            pictures = gray_filled(chunk) if name == "objects" else chunk / np.float32(127.5) - 1
            tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
            with torch.autocast(vae.device.type, torch.bfloat16):
                pixels = tensor.to(vae.device).contiguous(memory_format=torch.channels_last)
                mean = cast(Any, vae).encode(pixels).latent_dist.mean
            parts.append((mean.float() * scale).half().cpu().numpy())
        partial = target.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(target)


class LatentCache:
    """Memory-mapped latents beside the scenes they belong to; indices as in SceneCache."""

    def __init__(self, folder: Path, cache: SceneCache) -> None:
        arrays = [cast(npt.NDArray[np.float16], np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _NAMES]
        self.pictures, self.backgrounds, self.objects = arrays
        if len(self.pictures) != len(cache) or len(self.objects) != len(cache.objects):
            raise InputError(
                f"{folder} holds latents of {len(self.pictures)} scenes, the scene cache {len(cache)}; encode again")
        self.scenes = cache
