"""Stage 3: the transparent decoder, on objects painted on gray and passed through the VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..transparent import TransparentDecoder, TransparentDecoderConfig
from ..weights import save_transparent_decoder
from .latents import LatentCache
from .sheets import picture_sheet

__all__ = ["DecoderStage", "embedded_decoder_config"]

_SCALE = 4  # pixels per latent cell of the embedded VAE
# Sides of the crops, as shares of the canvas. Group norms take in the whole picture: a decoder that saw close crops alone
# paints objects on a whole canvas too dark, and white ones pink.
_CROPS = (0.5, 0.75, 1.0, 1.0)


def embedded_decoder_config() -> TransparentDecoderConfig:
    """LayerDiffuse's architecture at the embedded model's size."""
    return TransparentDecoderConfig(
        widths=(32, 32, 64, 96), layers_per_block=1, attention_blocks=1, latent_block=2, norm_groups=8, head_dim=32)


class _DecoderLoss(nn.Module):
    def __init__(self, vae: AutoencoderKL, decoder: TransparentDecoder) -> None:
        super().__init__()
        self.vae, self.decoder = vae.requires_grad_(False), decoder

    def inputs(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's two inputs for scaled latents: the decoded picture in [0,1], and the VAE's own latent."""
        own = latents / self.vae.config["scaling_factor"]
        with torch.no_grad():
            pictures = (cast(Any, self.vae).decode(own).sample.float() / 2 + 0.5).clamp(0, 1)
        return pictures, own

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        latents, rgba = batch
        estimate = self.decoder(*self.inputs(latents)).float()
        alpha, color = rgba[:, 3:], rgba[:, :3]
        alpha_error = (estimate[:, :1] - alpha).abs().mean()
        # Colour counts where something can be seen; a little around it keeps soft edges free of gray fringes.
        near = nn.functional.max_pool2d(alpha, 5, 1, 2)
        color_error = ((estimate[:, 1:] - color).abs() * (0.2 * near + 0.8 * alpha)).sum() / (near.sum() * 3 + 1)
        return {"loss": alpha_error + 0.3 * color_error, "alpha": alpha_error.detach(), "color": color_error.detach()}


def _bleed(rgba: np.ndarray) -> np.ndarray:
    """Colour under alpha 0 is black in the scenes: spread the object's colours outwards, as a matte's neighbours."""
    color, weight = rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]
    for reach in (1, 2, 4):
        color, weight = (
            sum(np.roll(x, shift, (0, 1)) for shift in ((0, 0), (0, reach), (0, -reach), (reach, 0), (-reach, 0)))
            for x in (color, weight))
    outside = np.clip(color / np.maximum(weight, 1e-4), 0, 1)
    sharp = np.clip(rgba[..., 3:] * 4, 0, 1)
    return np.concatenate([rgba[..., :3] * sharp + outside * (1 - sharp), rgba[..., 3:]], -1).astype(np.float32)


class DecoderStage:
    """Objects and the gray around them; latents are disturbed a little, because sampled ones are never as clean as encoded ones."""

    def __init__(self, cache: LatentCache, vae: AutoencoderKL, decoder: TransparentDecoder | None = None) -> None:
        self.cache, self.side = cache, cache.objects.shape[-1] * _SCALE
        self.decoder = decoder or TransparentDecoder(embedded_decoder_config())
        self.module = _DecoderLoss(vae, self.decoder)

    def _example(self, rng: np.random.Generator, crop: int) -> tuple[np.ndarray, np.ndarray]:
        index = int(rng.integers(len(self.cache.objects)))
        rgba = self.cache.scenes.objects[index]
        alpha, cells = rgba[..., 3], crop // _SCALE
        most = alpha.shape[0] // _SCALE - cells
        # Aim at the object: most of a canvas is empty.
        rows, columns = np.nonzero(alpha > 127)
        aim = int(rng.integers(len(rows))) if len(rows) else 0
        center = (rows[aim], columns[aim]) if len(rows) else (64, 64)
        y, x = (int(np.clip(c // _SCALE - rng.integers(cells), 0, most)) for c in center)
        latents = self.cache.objects[index, :, y : y + cells, x : x + cells].astype(np.float32)
        window = rgba[y * _SCALE : y * _SCALE + crop, x * _SCALE : x * _SCALE + crop]
        return latents, _bleed(window / np.float32(255))

    def batch(self, generator: torch.Generator, size: int, crop: int | None = None) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        crop = crop or round(self.side * _CROPS[int(rng.integers(len(_CROPS)))])
        examples = [self._example(rng, crop) for _ in range(size)]
        latents = torch.from_numpy(np.stack([e[0] for e in examples]))
        strength = torch.rand(size, 1, 1, 1, generator=generator).square() * 0.25
        latents = latents + strength * torch.randn(latents.shape, generator=generator)
        rgba = torch.from_numpy(np.stack([e[1] for e in examples])).permute(0, 3, 1, 2)
        return latents, rgba.contiguous()

    def sample(self, path: Path) -> None:
        latents, rgba = self.batch(torch.Generator().manual_seed(2), 10, self.side)
        device = self.decoder.conv_in.weight.device
        with torch.autocast(device.type, torch.bfloat16):
            pictures, own = self.module.inputs(latents.to(device))
            estimate = self.decoder.decode(pictures, own, views=1).float().cpu()
        pictures = pictures.cpu()
        red = torch.tensor([0.9, 0.3, 0.3])[:, None, None]
        over = estimate[:, :3] * estimate[:, 3:] + red * (1 - estimate[:, 3:])
        error = (estimate[:, 3:] - rgba[:, 3:]).abs().mean()
        picture_sheet([pictures, estimate[:, 3:].expand(-1, 3, -1, -1), rgba[:, 3:].expand(-1, 3, -1, -1), over], path,
                      title=f"on gray, alpha, true alpha, over red; mean alpha error {error:.4f}")

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_transparent_decoder(self.decoder, folder / "layer_decoder.safetensors")
