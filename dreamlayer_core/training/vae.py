"""Stage 1: the VAE, on crops of scenes, backgrounds and objects on gray."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from .data import SceneCache
from .sheets import picture_sheet

__all__ = ["VaeStage", "make_vae"]


def make_vae() -> AutoencoderKL:
    """The embedded VAE, untrained: scale factor 4, four latent channels."""
    widths = (32, 64, 96)
    return cast(Any, AutoencoderKL)(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=32,
        sample_size=128,
    )


def _silence(part: nn.Module) -> None:
    """Attention over a whole picture would learn the size of the training crops, and tint pictures of any other.

    It stays in the architecture, and silent.
    """
    attention = cast(Any, part).mid_block.attentions.requires_grad_(False)
    nn.init.zeros_(attention[0].to_out[0].weight)
    nn.init.zeros_(attention[0].to_out[0].bias)


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture[..., 1:, :] - picture[..., :-1, :], picture[..., 1:] - picture[..., :-1]


class _VaeLoss(nn.Module):
    """L1 + L2 + edges + a KL strong enough that latents a little off still decode well."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        vae = cast(Any, self.vae)
        posterior = vae.encode(pictures).latent_dist
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        decoded = vae.decode(latents).sample.float()
        error = decoded - pictures
        l2 = error.square().mean()
        edges = sum((a - b).abs().mean() for a, b in zip(_gradients(decoded), _gradients(pictures), strict=True))
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        # Three latent channels stay near the picture itself at a quarter of its size: the colours are there from the
        # first minutes on, and such latents are quick to learn for a small diffusion model.
        anchor = (mean[:, :3] - 2 * avg_pool2d(pictures, pictures.shape[-1] // mean.shape[-1])).square().mean()
        psnr = -10 * torch.log10(l2.detach() / 4)
        loss = error.abs().mean() + l2 + 0.5 * edges + 2e-4 * kl + 0.1 * anchor
        return {"loss": loss, "psnr": psnr, "kl": kl.detach(), "anchor": anchor.detach()}


class VaeStage:
    """Crops of ``crop`` pixels at most; half scenes, a fifth backgrounds, the rest single objects on gray.

    A third of the batches holds fewer but whole pictures: group normalisation sees all of a picture, and what it makes of a
    small object on much gray differs from what it makes of a crop. ``vae`` goes on from a trained one, with its decoder
    alone and on whole pictures alone: a UNet may live on its latents already.
    """

    def __init__(self, cache: SceneCache, vae: AutoencoderKL | None = None, crop: int = 64) -> None:
        self.cache, self.crop, self.new = cache, min(crop, cache.pictures.shape[1]), vae is None
        self.vae: AutoencoderKL = cast(Any, vae or make_vae()).to(memory_format=torch.channels_last)
        for part in (self.vae.encoder, self.vae.decoder):
            _silence(part)
        if not self.new:
            self.vae.encoder.requires_grad_(False)
            cast(Any, self.vae).quant_conv.requires_grad_(False)
        self.module = _VaeLoss(self.vae)

    def _picture(self, rng: np.random.Generator, crop: int) -> np.ndarray:
        kind, side = rng.random(), self.cache.pictures.shape[1]
        y, x = (int(rng.integers(side - crop + 1)) for _ in range(2))
        window = np.s_[y : y + crop, x : x + crop]
        if kind < 0.7:
            source = self.cache.pictures if kind < 0.5 else self.cache.backgrounds
            return source[int(rng.integers(len(source)))][window] / np.float32(127.5) - 1
        rgba = self.cache.objects[int(rng.integers(len(self.cache.objects)))][window] / np.float32(255)
        return (rgba[..., :3] - 0.5) * 2 * rgba[..., 3:]

    def batch(self, generator: torch.Generator, size: int, crop: int | None = None) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        if crop is None:
            window = int(self.cache.pictures.shape[1]) if not self.new or rng.random() < 1 / 3 else self.crop
            size = max(1, size * self.crop**2 // window**2)
        else:
            window = crop
        pictures = np.stack([self._picture(rng, window) for _ in range(size)])
        pictures = np.where(rng.random((size, 1, 1, 1)) < 0.5, pictures, pictures[:, :, ::-1])
        return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)

    def sample(self, path: Path) -> None:
        device = self.vae.device
        pictures = self.batch(torch.Generator().manual_seed(1), 8, self.cache.pictures.shape[1]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            decoded = self.vae(pictures, sample_posterior=False).sample.float()
        psnr = -10 * torch.log10((decoded - pictures).square().mean() / 4)
        picture_sheet([(pictures.cpu() + 1) / 2, (decoded.cpu() + 1) / 2], path, title=f"VAE {psnr:.2f} dB (posterior mean)")

    def export(self, folder: Path) -> None:
        """Write the VAE; a new one with the scaling factor that gives its latents unit variance.

        One that goes on from a trained VAE keeps its factor.
        """
        if self.new:
            self.vae.register_to_config(scaling_factor=self._unit_scale())
        self.vae.save_pretrained(folder / "vae", safe_serialization=True)

    @torch.no_grad()
    def _unit_scale(self) -> float:
        pictures = [self.batch(torch.Generator().manual_seed(i), 16, min(128, self.cache.pictures.shape[1])).to(self.vae.device) for i in range(8)]
        return float(1 / torch.cat([cast(Any, self.vae).encode(some).latent_dist.mean for some in pictures]).std())
