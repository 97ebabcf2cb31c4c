"""Socket types of our own, only where ComfyUI's core has none, and what goes through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.attention.steering import ContextSteering
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.inversion import Inversion
from ..dreamlayer_core.prompts import LayerPrompts
from ..dreamlayer_core.weights import Adapter

__all__ = [
    "LAYERS_KEY", "AdapterSocket", "DecoderSocket", "InversionSocket", "InvertedPicture", "LatentLayers", "LayerPlan",
    "LoadedAdapter", "LoadedDecoder", "PictureSteering", "PlanSocket", "SampledTrajectory", "SteeringSocket",
    "TrajectorySocket", "latent_layers",
]

LAYERS_KEY = "dreamlayer"
"""Under this key a LATENT holds its ``LatentLayers``, and a CONDITIONING its ``LayeredEmbedding``."""

PlanSocket = io.Custom("DREAMLAYER_PLAN")
AdapterSocket = io.Custom("DREAMLAYER_ADAPTER")
DecoderSocket = io.Custom("DREAMLAYER_DECODER")
TrajectorySocket = io.Custom("DREAMLAYER_TRAJECTORY")
InversionSocket = io.Custom("DREAMLAYER_INVERSION")
SteeringSocket = io.Custom("DREAMLAYER_STEERING")


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """Prompts of one picture's layers, their names and weights; ``names`` and ``weights`` are the foregrounds'."""

    prompts: LayerPrompts
    names: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def rows(self) -> int:
        """Background, foregrounds, and the whole picture."""
        return len(self.names) + 2

    def __str__(self) -> str:
        lines = [f"background: {self.prompts.background}"]
        for name, text, weight in zip(self.names, self.prompts.foregrounds, self.weights, strict=True):
            lines.append(f"{name}: {text}" + ("" if weight == 1 else f" (weight {weight:g})"))
        lines += [f"whole picture: {self.prompts.whole}"] if self.prompts.whole else []
        lines += [f"negative: {self.prompts.negative}"] if self.prompts.negative else []
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class LatentLayers:
    """What a layered LATENT knows of itself. Sizes in pixels of the picture; the latent may reach beyond them."""

    plan: LayerPlan | None
    rows: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedAdapter:
    """An adapter file as read, fp32 on the CPU."""

    weights: Adapter
    family: str
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedDecoder:
    """A transparent decoder under ComfyUI's memory management."""

    patcher: comfy.model_patcher.ModelPatcher
    latent_scale: int  # pixels per latent cell


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledTrajectory:
    """z_t of all rows at the sampler's own sigmas, shaped as LATENT values (stacks * rows, c, h, w), and how they were sampled.

    ``between`` are the z_t by sigma, in order, that a sampler of higher order calls the model with besides: who changes
    ``latents`` leaves them out. ``final`` are the LATENT values that came out, ``start`` is the LATENT that went in, None where
    nothing of them was kept. ``layer_cfg`` are CFGs of single rows, ``guidance_range`` shares of the sampling (start, end)
    beyond which nothing is guided.
    """

    latents: tuple[Tensor, ...]
    sigmas: Tensor  # of the whole run, descending, one more than latents
    rows: int
    positive: list[Any]
    negative: list[Any]
    cfg: float
    sampler: str
    seed: int
    layers: LatentLayers
    between: Mapping[float, tuple[Tensor, ...]] = field(default_factory=lambda: dict[float, tuple[Tensor, ...]]())
    final: Tensor | None = None
    start: Mapping[str, Any] | None = None
    denoise: float = 1.0
    layer_cfg: Mapping[int, float] = field(default_factory=lambda: dict[int, float]())
    guidance_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class InvertedPicture:
    """Pictures taken back to noise, on the CPU, and what their rows are."""

    inversion: Inversion
    layers: LatentLayers


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureSteering:
    """Where foregrounds are in a picture of ``size`` (width, height): masks over it by layer, 1 being the lowest foreground."""

    size: tuple[int, int]
    layers: Mapping[int, ContextSteering]


def latent_layers(latent: Mapping[str, Any]) -> LatentLayers:
    """What a LATENT knows of its layers. Raises InputError for one that is not layered, not whole or not finite."""
    samples, layers = latent.get("samples"), latent.get(LAYERS_KEY)
    if not isinstance(samples, Tensor) or samples.ndim != 4:
        raise InputError("got a latent without pictures in it; connect Empty Layered Latent or Encode RGBA Layers")
    if not isinstance(layers, LatentLayers):
        raise InputError("got a latent that is not layered; connect Empty Layered Latent or Encode RGBA Layers")
    if len(samples) == 0 or len(samples) % layers.rows:
        raise InputError(
            f"got {len(samples)} latents for pictures of {layers.rows} rows (background, foregrounds and the whole); "
            "do not take single rows out of a layered latent before it is decoded")
    if not bool(torch.isfinite(samples).all()):
        raise InputError("got latents with NaN or infinite values; lower the CFG, or run the model in fp32")
    return layers


