"""The transparent decoder of LayerDiffuse in plain torch: a decoded picture and its latent -> alpha and foreground colour.

A UNet over the VAE's RGB, with the 4-channel latent added through a zero-initialised 1x1 convolution before the down block that works
at the latent's resolution. Parameter names are those of the published `*_vae_transparent_decoder.safetensors` files, so they load with
strict keys; every width is a setting, so that a small decoder is the same class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor, nn

from .config import TilingConfig
from .errors import InputError, WeightsError
from .tensor_checks import check_shapes
from .tiles import decode_tiles

__all__ = ["VIEWS", "TransparentDecoder", "TransparentDecoderConfig", "infer_config"]

VIEWS = (1, 2, 4, 8)  # numbers of test-time views: 8 = every flip and rotation by 90 degrees


@dataclass(frozen=True, kw_only=True)
class TransparentDecoderConfig:
    """Shape of a transparent decoder; the defaults are LayerDiffuse's published one, for a VAE of scale factor 8.

    The latent joins before down block `latent_block`, whose resolution is 1 / 2^latent_block of the picture's: 3 for a VAE of scale 8,
    2 for one of scale 4. `attention_blocks` counts the deepest down blocks (and as many up blocks) that have self-attention.
    Raises InputError for widths that the groups or the heads do not divide.
    """

    widths: tuple[int, ...] = (32, 32, 64, 128, 256, 512, 512)  # LayerDiffuse
    layers_per_block: int = 2  # LayerDiffuse
    attention_blocks: int = 3  # LayerDiffuse
    latent_block: int = 3  # LayerDiffuse
    norm_groups: int = 4  # LayerDiffuse
    head_dim: int = 8  # LayerDiffuse
    latent_channels: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        blocks = len(self.widths)
        if not 2 <= blocks <= 12 or not 1 <= self.layers_per_block <= 16 or min(self.widths) < 1:
            raise InputError(
                f"got widths {self.widths} with {self.layers_per_block} layers each; give 2 to 12 widths and 1 to 16 layers"
            )
        if min(self.norm_groups, self.head_dim, self.latent_channels) < 1:
            raise InputError("got a norm_groups, head_dim or latent_channels below 1; give positive numbers")
        if not 0 <= self.latent_block < blocks or not 0 <= self.attention_blocks <= blocks:
            raise InputError(
                f"got latent_block {self.latent_block} and attention_blocks {self.attention_blocks} for {blocks} blocks; "
                f"give 0..{blocks - 1} and 0..{blocks}"
            )
        if odd := [width for width in self.widths if width % self.norm_groups]:
            raise InputError(f"got widths {odd}; each must be a multiple of norm_groups={self.norm_groups}")
        if odd := [width for width in self.widths[-max(self.attention_blocks, 1) :] if width % self.head_dim]:
            raise InputError(f"got widths {odd} with attention; each must be a multiple of head_dim={self.head_dim}")

    @property
    def multiple(self) -> int:
        """Sides are padded to a multiple of this many pixels."""
        return 2 ** (len(self.widths) - 1)

    @property
    def latent_scale(self) -> int:
        """Pixels per latent cell."""
        return 2**self.latent_block


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


class _Resnet(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = _conv(inputs, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = _conv(outputs, outputs)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)
        self._projects = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        return hidden + (self.conv_shortcut(x) if self._projects else x)


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, groups: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.group_norm = nn.GroupNorm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        tokens = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        query, key, value = (
            rearrange(to(tokens), "b n (heads d) -> b heads n d", d=self.head_dim)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = self.to_out[0](rearrange(attended, "b heads n d -> b n (heads d)"))
        return x + rearrange(tokens, "b (h w) c -> b c h w", h=height)


class _Resample(nn.Module):
    """Halves (a strided convolution) or doubles (nearest, then a convolution) both sides."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = _conv(channels, channels, stride=1 if up else 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


def _attentions(config: TransparentDecoderConfig, channels: int, number: int) -> nn.ModuleList:
    return nn.ModuleList([_SelfAttention(channels, config.norm_groups, config.head_dim) for _ in range(number)])


class _DownBlock(nn.Module):
    def __init__(self, config: TransparentDecoderConfig, index: int) -> None:
        super().__init__()
        inputs, outputs = config.widths[max(index - 1, 0)], config.widths[index]
        layers, last = config.layers_per_block, len(config.widths) - 1
        self.resnets = nn.ModuleList(
            [_Resnet(inputs if layer == 0 else outputs, outputs, config.norm_groups) for layer in range(layers)]
        )
        self.attentions = _attentions(config, outputs, layers if index > last - config.attention_blocks else 0)
        self.downsamplers = nn.ModuleList([_Resample(outputs, up=False)] if index < last else [])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        for layer, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attentions:
                x = self.attentions[layer](x)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x, skips


class _MidBlock(nn.Module):
    def __init__(self, config: TransparentDecoderConfig) -> None:
        super().__init__()
        channels = config.widths[-1]
        self.attentions = _attentions(config, channels, 1)
        self.resnets = nn.ModuleList([_Resnet(channels, channels, config.norm_groups) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class _UpBlock(nn.Module):
    def __init__(self, config: TransparentDecoderConfig, index: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        last, layers = len(widths) - 1, config.layers_per_block + 1
        outputs = widths[index]
        arriving = [widths[max(index - 1, 0)]] + [outputs] * (layers - 1)
        skipping = [outputs] * (layers - 1) + [widths[min(index + 1, last)]]
        self.resnets = nn.ModuleList(
            [_Resnet(a + s, outputs, config.norm_groups) for a, s in zip(arriving, skipping, strict=True)]
        )
        self.attentions = _attentions(config, outputs, layers if index < config.attention_blocks else 0)
        self.upsamplers = nn.ModuleList([_Resample(outputs, up=True)] if index < last else [])

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Takes its skips off the end of the list."""
        for layer, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1))
            if self.attentions:
                x = self.attentions[layer](x)
        for upsampler in self.upsamplers:
            x = upsampler(x)
        return x


class TransparentDecoder(nn.Module):
    """LayerDiffuse's latent transparency decoder (Zhang and Agrawala, 2024)."""

    def __init__(self, config: TransparentDecoderConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.widths, range(len(config.widths))
        self.conv_in = _conv(3, widths[0])
        self.latent_conv_in = nn.Conv2d(config.latent_channels, widths[max(config.latent_block - 1, 0)], 1)
        for parameter in self.latent_conv_in.parameters():
            nn.init.zeros_(parameter)
        self.down_blocks = nn.ModuleList([_DownBlock(config, index) for index in blocks])
        self.mid_block = _MidBlock(config)
        self.up_blocks = nn.ModuleList([_UpBlock(config, index) for index in blocks])
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = _conv(widths[0], 4)

    def forward(self, rgb: Tensor, latent: Tensor) -> Tensor:
        """Raw estimate (b, 4, H, W), channel 0 = alpha, 1-3 = straight foreground colour; not clamped, for training.

        `rgb` (b, 3, H, W) in [0, 1]; `latent` (b, c, H / latent_scale, W / latent_scale) as it goes into the VAE's decoder. Sides must
        be multiples of `config.multiple`; `decode` takes any size.
        """
        x = self.conv_in(rgb)
        skips = [x]
        for index, block in enumerate(self.down_blocks):
            if index == self.config.latent_block:
                x = x + self.latent_conv_in(latent)
            x, made = block(x)
            skips += made
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x, skips)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))

    @torch.no_grad()
    def decode(self, rgb: Tensor, latent: Tensor, *, views: int = 8, tiling: TilingConfig | None = None) -> Tensor:
        """RGBA (b, 4, H, W) in [0, 1], straight alpha: the per-pixel median over 1, 2, 4 or 8 flips and rotations.

        `rgb` (b, 3, H, W) in [0, 1] of any size, `latent` (b, c, h, w) with H and W `latent_scale` times its sides. Large pictures
        go in tiles, which changes them a little, see `TilingConfig`. Raises InputError for other shapes.
        """
        self._check(rgb, latent, views)
        height, width = rgb.shape[2:]
        rgb, latent = self._pad(*(x.to(self.conv_in.weight.dtype) for x in (rgb, latent)))
        decode, tiling = partial(self._median_view, views=views), tiling or TilingConfig()
        tiled = tiling.splits((height, width))
        estimate = decode_tiles(decode, rgb, latent, tiling, self.config.multiple) if tiled else decode(rgb, latent)
        return estimate[:, [1, 2, 3, 0], :height, :width]

    def _median_view(self, rgb: Tensor, latent: Tensor, views: int) -> Tensor:
        # one view at a time: eight at once would need eight times the memory, and half of them have another shape
        return _median(torch.stack([_seen(self, rgb, latent, view) for view in _views(views)]))

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], config: TransparentDecoderConfig | None = None
    ) -> TransparentDecoder:
        """A decoder with exactly these tensors, in their dtype and in eval mode; no config = `infer_config`.

        Raises WeightsError, naming what is missing, unknown or of another shape.
        """
        config = infer_config(state) if config is None else config
        with torch.device("meta"):
            decoder = cls(config)
        check_shapes(state, {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()})
        decoder.load_state_dict(dict(state), strict=True, assign=True)
        return decoder.eval()

    def _check(self, rgb: Tensor, latent: Tensor, views: int) -> None:
        if views not in VIEWS:
            raise InputError(f"got {views} views; give one of {', '.join(map(str, VIEWS))}")
        if rgb.ndim != 4 or rgb.shape[1] != 3:
            raise InputError(f"got a picture of shape {tuple(rgb.shape)}; give (batch, 3, height, width)")
        scale = self.config.latent_scale
        batch, _, height, width = rgb.shape
        if height % scale or width % scale:
            raise InputError(
                f"got a {width}x{height} picture; its sides must be multiples of {scale}, the latent's cell"
            )
        expected = (batch, self.config.latent_channels, height // scale, width // scale)
        if tuple(latent.shape) != expected:
            raise InputError(
                f"got a latent of shape {tuple(latent.shape)} for a {width}x{height} picture; expected {expected}"
            )

    def _pad(self, rgb: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.config.latent_scale
        right, bottom = (-rgb.shape[3] % self.config.multiple, -rgb.shape[2] % self.config.multiple)
        if not right and not bottom:
            return rgb, latent
        # repeated edges: black bars would be seen as objects
        pad = functional.pad(rgb, (0, right, 0, bottom), mode="replicate")
        return pad, functional.pad(latent, (0, right // scale, 0, bottom // scale), mode="replicate")


def infer_config(state: Mapping[str, Tensor]) -> TransparentDecoderConfig:
    """The shape of a decoder from the names and shapes of its tensors. Raises WeightsError where they are not a transparent decoder's.

    Two things leave no trace: groups and head size are taken to be LayerDiffuse's. The latent joins before the block whose input is as
    wide as `latent_conv_in`; of several, the deepest.
    """
    widths = tuple(state[_WIDTH.format(index)].shape[0] for index in range(_count(state, _WIDTH)))
    latent = state.get("latent_conv_in.weight")
    if len(widths) < 2 or latent is None or latent.ndim != 4:
        raise WeightsError(
            f"not a transparent decoder: {len(state)} tensors, {len(widths)} down blocks, latent_conv_in "
            f"{'missing' if latent is None else 'present'}; give a file like LayerDiffuse's *_vae_transparent_decoder.safetensors"
        )
    blocks = [index for index in range(len(widths)) if widths[max(index - 1, 0)] == latent.shape[0]]
    try:
        return TransparentDecoderConfig(
            widths=widths,
            layers_per_block=_count(state, "down_blocks.0.resnets.{}.conv1.weight"),
            attention_blocks=sum(
                f"down_blocks.{index}.attentions.0.to_q.weight" in state for index in range(len(widths))
            ),
            latent_block=max(blocks, default=-1),
            latent_channels=latent.shape[1],
        )
    except InputError as error:
        raise WeightsError(f"not a transparent decoder of this kind: {error}") from error


_WIDTH = "down_blocks.{}.resnets.0.conv1.weight"


def _count(state: Mapping[str, Tensor], name: str) -> int:
    return next(index for index in count() if name.format(index) not in state)


def _views(number: int) -> list[tuple[bool, int]]:
    """(mirrored, quarter turns) of each view; fewer than eight keep the picture's orientation."""
    turns = range(4) if number == 8 else range(0, number, 2)
    return [(mirrored, turn) for mirrored in ((False, True) if number > 1 else (False,)) for turn in turns]


def _seen(estimate: Callable[[Tensor, Tensor], Tensor], rgb: Tensor, latent: Tensor, view: tuple[bool, int]) -> Tensor:
    """The estimate from one view, turned back and clamped to [0, 1]."""
    mirrored, turns = view

    def turned(x: Tensor) -> Tensor:
        return torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3))

    result = torch.rot90(estimate(turned(rgb), turned(latent)).clamp(0, 1), -turns, (2, 3))
    return result.flip(3) if mirrored else result


def _median(estimates: Tensor) -> Tensor:
    """Per-pixel median over the first axis."""
    number = len(estimates)
    if number == 8:
        return estimates.median(dim=0).values  # LayerDiffuse's: the lower of the two middle ones
    # of two or four the lower would be the minimum, or near it: every alpha would shrink
    return estimates.sort(dim=0).values[(number - 1) // 2 : number // 2 + 1].mean(dim=0)
