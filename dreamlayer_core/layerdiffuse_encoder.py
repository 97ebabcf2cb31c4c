"""LayerDiffuse's transparent encoder: alpha and colour -> an offset of the VAE's latent mean (Zhang and Agrawala 2024).

z = mean + std · offset, with mean and std of the picture on gray. Two releases differ by a factor of the offset: the one
for diffusers multiplies what its file gives by 300, the first one does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from .composite import premultiply
from .errors import InputError, WeightsError
from .file_kinds import expect
from .safetensors_files import about, read_tensors
from .tensor_checks import check_shapes, check_values

__all__ = ["OFFSET_SCALES", "TransparentEncoder", "load_transparent_encoder", "pad_colors", "silu_convolutions"]

OFFSET_SCALES = {
    "vae_transparent_encoder": 1.0,
    "layer_sd15_vae_transparent_encoder": 1.0,
    "ld_diffusers_sdxl_vae_transparent_encoder": 300.0,
}
"""Published file, by its name without the suffix -> what its offset is multiplied by. The files look alike inside."""

_PYRAMID_STEP = 1.2  # LayerDiffuse


def silu_convolutions(widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions from width to width, with SiLU after each: convolutions have the even names."""
    sizes = zip(widths[:-1], widths[1:], strides, strict=True)
    layers = [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1) for inputs, outputs, stride in sizes]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.SiLU())))


def conv_widths(tensors: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Channels between the convolutions ``{prefix}.{0, 2, …}.weight``, as far as they follow each other."""
    weights = list[Tensor]()
    while (name := f"{prefix}.{2 * len(weights)}.weight") in tensors and tensors[name].ndim == 4:
        weights.append(tensors[name])
    if not weights:
        raise WeightsError(f"missing {prefix}.0.weight; the file is incomplete or of another kind")
    return (weights[0].shape[1], *(weight.shape[0] for weight in weights))


def widening_strides(widths: Sequence[int]) -> tuple[int, ...]:
    """LayerDiffuse halves a picture wherever it widens it, but for the first convolution."""
    return (1, *(2 if b > a else 1 for a, b in zip(widths[1:], widths[2:], strict=False)))


class TransparentEncoder(nn.Module):
    """Convolutions over alpha and padded RGB; ``widths`` (32, 32, 64, 64, 128, 128, 256, 256) as published.

    ``scale`` multiplies the offset, see `OFFSET_SCALES`. Raises InputError for widths without a convolution.
    """

    def __init__(self, widths: Sequence[int], *, scale: float, latent_channels: int = 4) -> None:
        super().__init__()
        if not widths:
            raise InputError("got no widths; give one per convolution")
        channels = (4, *widths, latent_channels)
        self.scale = scale
        self.strides = widening_strides(channels)
        self.blocks = silu_convolutions(channels, self.strides)[:-1]

    @property
    def latent_scale(self) -> int:
        """Pixels per latent cell."""
        return 2 ** sum(stride == 2 for stride in self.strides)

    def forward(self, rgba: Tensor) -> Tensor:
        """The offset (n, 4, h, w), in standard deviations, of straight RGBA (n, 4, H, W) in [0, 1]; fp32."""
        alpha = rgba[:, 3:]
        padded = torch.cat([alpha, pad_colors(rgba[:, :3], alpha)], 1)
        weight = next(self.blocks.parameters())
        return self.blocks(padded.to(weight)).float() * self.scale


def load_transparent_encoder(path: str | Path, *, scale: float | None = None) -> TransparentEncoder:
    """A published file, strictly by its names and shapes; ``scale`` by its name where None.

    Raises WeightsError for what is no such file, and for a renamed one without a scale.
    """
    path = Path(path)
    expect(path, "layerdiffuse-encoder")
    tensors, _ = read_tensors(path)
    with about(path):
        check_values(tensors)
        widths = conv_widths(tensors, "blocks")
        with torch.device("meta"):
            encoder = TransparentEncoder(widths[1:-1], scale=_scale(path, scale), latent_channels=widths[-1])
        check_shapes(tensors, {name: tuple(w.shape) for name, w in encoder.state_dict().items()})
        encoder.load_state_dict(tensors, strict=True, assign=True)
    return encoder.eval().requires_grad_(False)


def _scale(path: Path, scale: float | None) -> float:
    if scale is not None:
        return scale
    if path.stem not in OFFSET_SCALES:
        raise WeightsError(
            "a transparent encoder under a name of its own, which does not say whether its offset is multiplied by 300; "
            f"give the scale (1 or 300), or the file its published name ({', '.join(OFFSET_SCALES)})")
    return OFFSET_SCALES[path.stem]


def pad_colors(color: Tensor, alpha: Tensor) -> Tensor:
    """Straight colours (n, 3, h, w) run out under transparency (n, 1, h, w), as LayerDiffuse feeds its encoder.

    From the coarsest to the finest level of a pyramid of means by 1.2, each level's colours are laid over those before.
    """
    levels = [torch.cat([premultiply(color, alpha), alpha], 1).float()]
    while min(levels[-1].shape[-2:]) > 1:
        levels.append(_shrunk(levels[-1]))
    coarsest = levels[-1].sum((-2, -1), keepdim=True)
    filled = coarsest[:, :3] / coarsest[:, 3:].clamp_min(1e-8)
    for level in reversed(levels):
        size = (level.shape[-2], level.shape[-1])
        filled = level[:, :3] + functional.interpolate(filled, size, mode="bilinear") * (1 - level[:, 3:])
    return filled


def _shrunk(picture: Tensor) -> Tensor:
    """A picture (n, c, h, w) smaller by the pyramid's step: means over the area of each new pixel."""
    rows, columns = (_area_means(side, int(side / _PYRAMID_STEP)).to(picture) for side in picture.shape[-2:])
    return rows @ picture @ columns.T


def _area_means(side: int, smaller: int) -> Tensor:
    """(smaller, side): the share that each pixel of a line has in each of fewer, larger ones."""
    edges = torch.arange(smaller + 1, dtype=torch.float64) * (side / smaller)
    cells = torch.arange(side, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)
    return overlap.clamp_min(0) * (smaller / side)
