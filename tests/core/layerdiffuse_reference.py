"""LayerDiffuse written out slowly from what is known of its files: loops over pictures, rows and heads, merged weights.

Shares no code with what it is compared to. Also makes files of the published names, in any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from .naive import replaced_attention

Shapes = dict[str, tuple[int, ...]]

# The published order: input blocks 1, 2, 4, 5, 7, 8, output blocks 3 to 11, the middle block.
SITES = [f"{place}.transformer_blocks.0.attn{kind}" for place in (
    *(f"down_blocks.{block}.attentions.{unit}" for block in (0, 1, 2) for unit in (0, 1)),
    *(f"up_blocks.{block}.attentions.{unit}" for block in (1, 2, 3) for unit in (0, 1, 2)), "mid_block.attentions.0",
) for kind in (1, 2)]

SD15_WIDTHS = [320] * 4 + [640] * 4 + [1280] * 4 + [1280] * 6 + [640] * 6 + [320] * 6 + [1280] * 2
ENCODER_WIDTHS = (32, 32, 64, 64, 128, 128, 256, 256)


def attention_shapes(
    frames: int, *, widths: list[int] = SD15_WIDTHS, context: int = 768, rank: int = 256,
    control: tuple[int, ...] | None = None,
) -> Shapes:
    """Names and shapes of an SD1.5 file; ``control``: widths of the first block of the control's encoder."""
    shapes: Shapes = {}
    for site, width in enumerate(widths):
        for part in "iqkvon":
            shapes[f"hookers.layers.{site}.temporal_{part}.weight"] = (width,) if part == "n" else (width, width)
            shapes[f"hookers.layers.{site}.temporal_{part}.bias"] = (width,)
        for frame in range(frames):
            for part in ("q", "k", "v", "out"):
                inputs = context if site % 2 and part in "kv" else width
                shapes[f"hookers.layers.{site}.to_{part}_lora.{frame}.down.weight"] = (rank, inputs)
                shapes[f"hookers.layers.{site}.to_{part}_lora.{frame}.up.weight"] = (width, rank)
            if control:
                name, last = f"hookers.layers.{site}.control_convs.{frame}", control[-1]
                shapes |= {f"{name}.0.weight": (last, last, 3, 3), f"{name}.0.bias": (last,),
                           f"{name}.2.weight": (width, last, 1, 1), f"{name}.2.bias": (width,)}
    return shapes if control is None else shapes | _control_shapes(control)


def _control_shapes(control: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {}
    before = 3
    for index, width in enumerate(control):
        shapes |= _convolution(f"kwargs_encoder.blocks_0.{2 * index}", before, width)
        before = width
    for block in (1, 2, 3):
        for index in (0, 2):
            shapes |= _convolution(f"kwargs_encoder.blocks_{block}.{index}", before, before)
    return shapes


def _convolution(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}


def encoder_shapes(widths: tuple[int, ...] = ENCODER_WIDTHS) -> Shapes:
    """Names and shapes of a transparent encoder."""
    shapes: Shapes = {}
    for index, (inputs, outputs) in enumerate(zip((4, *widths), (*widths, 4), strict=True)):
        shapes |= _convolution(f"blocks.{2 * index}", inputs, outputs)
    return shapes


def xl_shapes(
    widths: tuple[int, int] = (640, 1280), depths: tuple[int, int] = (2, 10), context: int = 2048, rank: int = 256
) -> Shapes:
    """Names and shapes of layer_xl_transparent_attn: transformers in input blocks 4, 5, 7, 8, the middle, output blocks 0 to 5."""
    places = [(f"input_blocks.{block}.1", block in (7, 8)) for block in (4, 5, 7, 8)]
    places += [("middle_block.1", True)] + [(f"output_blocks.{block}.1", block < 3) for block in range(6)]
    shapes: Shapes = {}
    for place, deep in places:
        for unit in range(depths[deep]):
            for kind in ("attn1", "attn2"):
                for part in ("to_q", "to_k", "to_v", "to_out.0"):
                    name = f"diffusion_model.{place}.transformer_blocks.{unit}.{kind}.{part}.weight"
                    inputs = context if kind == "attn2" and part in ("to_k", "to_v") else widths[deep]
                    shapes[f"{name}::lora::0"], shapes[f"{name}::lora::1"] = (widths[deep], rank), (rank, inputs)
    return shapes


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random values: weights of a size that keeps what goes through them, norms around one."""
    generator, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        inputs = torch.Size(shape[1:]).numel() if len(shape) > 1 else 25
        gain = 0.7 if "lora" in name else 1.8 if len(shape) == 4 else 1  # SiLU takes nearly half of what a convolution gives
        tensors[name] = values / inputs**0.5 * gain + float("temporal_n.weight" in name)
    return tensors


@dataclass(kw_only=True, eq=False)
class Reference:
    """Rows of a picture, ``height`` of them, some with merged weights; see `slow_layers`."""

    height: int
    change: Callable[[str, int], Tensor | None]  # (projection, row) -> what is added to its weight
    tensors: Mapping[str, Tensor]  # of SD1.5's file, for the temporal part
    temporal_rows: range  # which rows have the temporal part
    together: bool = False  # one temporal attention over these rows, rather than each alone
    joins: bool = False  # LSSA in the up blocks
    signals: Mapping[int, Tensor] | None = None

    def attention(self, name: str, module: Any, hidden: Tensor, text: Tensor | None) -> Tensor:
        rows = list(hidden)
        outputs: list[Tensor] = []
        for first in range(0, len(rows), self.height):
            own = rows[first:first + self.height]
            contexts = None if text is None else list(text[first:first + self.height])
            outputs += self.picture(name, module, own, contexts)
        return torch.stack(outputs)

    def picture(self, name: str, module: Any, hidden: list[Tensor], contexts: list[Tensor] | None) -> list[Tensor]:
        plain = hidden
        if self.signals is not None:
            hidden = [h + self.control(name, row, len(h)) for row, h in enumerate(hidden)]
        contexts = contexts or hidden
        keys = [self.linear(name, "to_k", module.to_k, c, row) for row, c in enumerate(contexts)]
        values = [self.linear(name, "to_v", module.to_v, c, row) for row, c in enumerate(contexts)]
        if self.joins and name.startswith("up_blocks") and name.endswith("attn1"):
            keys, values = [torch.cat(keys)] * len(keys), [torch.cat(values)] * len(values)
        after: list[Tensor] = []
        for row, h in enumerate(hidden):
            query = self.linear(name, "to_q", module.to_q, h, row)
            o = heads(query, keys[row], values[row], module.heads)
            after.append(h + self.linear(name, "to_out.0", module.to_out[0], o, row))
        moved = self.temporal(name, after, module.heads) if self.tensors else after
        return [m - p for m, p in zip(moved, plain, strict=True)]

    def linear(self, name: str, part: str, module: nn.Linear, tokens: Tensor, row: int) -> Tensor:
        change = self.change(f"{name}.{part}", row)
        weight = module.weight if change is None else module.weight + change
        return functional.linear(tokens, weight, module.bias)

    def temporal(self, name: str, after: list[Tensor], number: int) -> list[Tensor]:
        prefix = f"hookers.layers.{SITES.index(name)}.temporal_"

        def apply(part: str, tokens: Tensor) -> Tensor:
            return tokens @ self.tensors[f"{prefix}{part}.weight"].T + self.tensors[f"{prefix}{part}.bias"]

        moved = list(after)
        groups = [list(self.temporal_rows)] if self.together else [[row] for row in self.temporal_rows]
        for group in groups:
            for token in range(len(after[0])):
                frames = torch.stack([after[row][token] for row in group])
                x = (frames - frames.mean(1, keepdim=True)) / (frames.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
                x = x * self.tensors[f"{prefix}n.weight"] + self.tensors[f"{prefix}n.bias"]
                x = apply("i", x)
                x = apply("o", heads(apply("q", x), apply("k", x), apply("v", x), number))
                for row, added in zip(group, x, strict=True):
                    moved[row] = moved[row].clone()
                    moved[row][token] = after[row][token] + added
        return moved

    def control(self, name: str, frame: int, cells: int) -> Tensor:
        prefix, x = f"hookers.layers.{SITES.index(name)}.control_convs.{frame}", cast(Any, self.signals)[cells]
        x = functional.silu(functional.conv2d(
            x, self.tensors[f"{prefix}.0.weight"], self.tensors[f"{prefix}.0.bias"], padding=1))
        x = functional.conv2d(x, self.tensors[f"{prefix}.2.weight"], self.tensors[f"{prefix}.2.bias"])
        return x[0].flatten(1).T


def heads(query: Tensor, key: Tensor, value: Tensor, number: int) -> Tensor:
    """Attention of tokens (n, c) over tokens (m, c), head by head."""
    width = query.shape[1] // number
    parts = [slice(head * width, (head + 1) * width) for head in range(number)]
    return torch.cat([torch.softmax(query[:, own] @ key[:, own].T / width**0.5, 1) @ value[:, own] for own in parts], 1)


def frame_change(tensors: Mapping[str, Tensor], frame_of: Mapping[int, int]) -> Callable[[str, int], Tensor | None]:
    """Of SD1.5's file: up · down of each row's frame."""
    def change(projection: str, row: int) -> Tensor | None:
        if row not in frame_of:
            return None
        site, _, part = projection.removesuffix(".0").rpartition(".")
        prefix = f"hookers.layers.{SITES.index(site)}.{part}_lora.{frame_of[row]}"
        return tensors[f"{prefix}.up.weight"] @ tensors[f"{prefix}.down.weight"]

    return change


def control_signals(tensors: Mapping[str, Tensor], picture: Tensor) -> dict[int, Tensor]:
    """What the control's encoder makes of a picture (3, H, W) in [0, 1], by the number of cells."""
    x, signals = picture[None] * 2 - 1, dict[int, Tensor]()
    for block, strides in enumerate(((1, 1, 2, 1, 2, 1, 2, 1), (2, 1), (2, 1), (2, 1))):
        for index, stride in enumerate(strides):
            name = f"kwargs_encoder.blocks_{block}.{2 * index}"
            x = functional.silu(functional.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride, 1))
        signals[x.shape[2] * x.shape[3]] = x
    return signals


def slow_layers(unet: UNet2DConditionModel, reference: Reference) -> AbstractContextManager[None]:
    """Replace the forward of every attention layer by the loops."""
    return replaced_attention(unet, reference.attention)


def offset(
    tensors: Mapping[str, Tensor], rgba: Tensor, scale: float, strides: tuple[int, ...] = (1, 1, 2, 1, 2, 1, 2, 1, 1)
) -> Tensor:
    """The transparent encoder of straight RGBA (4, H, W) -> (4, h, w), with LayerDiffuse's strides."""
    x = torch.cat([rgba[3:], padded_colors(rgba)])[None]
    for index, stride in enumerate(strides):
        name = f"blocks.{2 * index}"
        x = functional.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride, 1)
        x = x if index == len(strides) - 1 else functional.silu(x)
    return x[0] * scale


def padded_colors(rgba: Tensor) -> Tensor:
    """LayerDiffuse's padding of colours, pixel by pixel: sums over areas going down, bilinear going up."""
    levels = [torch.cat([rgba[:3] * rgba[3:], rgba[3:]])]
    while min(levels[-1].shape[1:]) != 1:
        levels.append(_smaller(_smaller(levels[-1], int(levels[-1].shape[1] / 1.2)).mT, int(levels[-1].shape[2] / 1.2)).mT)
    total = levels[-1].sum((1, 2))
    colors = (total[:3] / max(float(total[3]), 1e-8))[:, None, None].expand(3, *levels[-1].shape[1:])
    for level in reversed(levels):
        height, width = level.shape[1:]
        larger = _larger(_larger(colors, height).mT, width).mT
        colors = level[:3] + larger * (1 - level[3:])
    return colors


def _smaller(picture: Tensor, rows: int) -> Tensor:
    """(c, H, w) -> (c, rows, w): each new row is the mean of the old ones that it lies over."""
    ratio, made = picture.shape[1] / rows, list[Tensor]()
    for row in range(rows):
        total = torch.zeros_like(picture[:, 0])
        for old in range(picture.shape[1]):
            total = total + max(0.0, min((row + 1) * ratio, old + 1) - max(row * ratio, old)) * picture[:, old]
        made.append(total / ratio)
    return torch.stack(made, 1)


def _larger(picture: Tensor, rows: int) -> Tensor:
    """(c, h, w) -> (c, rows, w): between the centres of the two nearest old rows."""
    made: list[Tensor] = []
    for row in range(rows):
        place = min(max((row + 0.5) * picture.shape[1] / rows - 0.5, 0.0), picture.shape[1] - 1.0)
        low = int(place)
        high = min(low + 1, picture.shape[1] - 1)
        made.append(picture[:, low] * (low + 1 - place) + picture[:, high] * (place - low))
    return torch.stack(made, 1)
