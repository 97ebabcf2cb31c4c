"""An SD1.5-shaped model of random weights, the same in every process: no file of 3 GB has to go between them. Torch only."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CONFIG = {
    "sample_size": 8, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 768,
    "attention_head_dim": 8, "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
ADAPTER = {
    "base_family": "sd15", "cross_attention_dim": 768, "context_features": 1280, "num_context_layers": 0, "slots": 0,
    "cell_hidden": 32}
ROWS, CELLS, STEPS, GUIDANCE = 4, 8, 10, 3.0
SPANS, OWN_SPANS = ((1, 4), (5, 3), (8, 2)), ((1, 4), (1, 3), (1, 2))


def random(name: str, *shape: int) -> Tensor:
    """Standard normal values that depend on the name and shape alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def unet_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights under diffusers' names that keep the size of what goes through them."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    return random(name, *shape) * torch.Size(shape[1:]).numel() ** -0.5


def adapter_weights(unet: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """K and V of one set: near the base's."""
    return {name.removesuffix(".weight"): weight + 0.3 * random(f"{part} {name}", *weight.shape) * weight.shape[1] ** -0.5
            for name, weight in unet.items() if name.endswith(("to_k.weight", "to_v.weight"))}


def cell_attention(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of an adapter that has it at every shared attention layer."""
    hidden, found = ADAPTER["cell_hidden"], dict[str, Tensor]()
    for name, weight in unet.items():
        if name.startswith("up_blocks.") and name.endswith(".attn1.to_v.weight"):
            site, channels = name.removesuffix(".to_v.weight"), len(weight)
            shapes = {"query.weight": (hidden, channels), "key.weight": (hidden, channels), "value.weight": (hidden, channels),
                      "output.weight": (channels, hidden), "roles": (2, 3, hidden), "mapped": (2, hidden)}
            found |= {f"{site}.{part}": random(f"{site} {part}", *shape) * shape[-1] ** -0.5 for part, shape in shapes.items()}
    return found


def embeddings() -> Tensor:
    return random("embeddings", ROWS, 77, 768)


def negative() -> Tensor:
    return random("negative", 1, 77, 768)


def noise() -> Tensor:
    return random("noise", ROWS, 4, CELLS, CELLS)
