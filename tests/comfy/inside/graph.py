"""Our nodes as a graph calls them, on the embedded model; and sampling of tiny latents from given noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

ROWS = 4  # of the usual plan: background, two foregrounds, and the whole


def apart(found: Tensor, expected: Tensor) -> float:
    """Relative distance."""
    return float((found - expected).norm() / expected.norm())


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Graph:
    """The embedded model, and short ways to its nodes."""

    def __init__(self, pack: Mapping[str, Any]) -> None:
        self.pack = pack
        self.model, self.clip, self.vae, self.decoder, self.adapter = self.call("LoadEmbeddedModel")

    def call(self, node: str, **inputs: Any) -> tuple[Any, ...]:
        """The outputs of a node."""
        return self.pack[f"DreamLayer{node}"].execute(**inputs).args

    def plan(self, *foregrounds: str, background: str = "green grass under a blue sky", **texts: str) -> Any:
        """Foregrounds are named by their last word."""
        inputs: dict[str, Any] = {"foregrounds": str(len(foregrounds))}
        for number, text in enumerate(foregrounds, 1):
            inputs |= {f"name_{number}": text.split()[-1], f"prompt_{number}": text, f"weight_{number}": 1.0}
        return self.call("Prompts", background=background, foregrounds=inputs, **texts)[0]

    def usual_plan(self) -> Any:
        return self.plan("a red ball", "a shiny blue cube", whole="a sunny picture", negative="gray")

    def encode(self, plan: Any = None, *, adapter: bool = True) -> tuple[list[Any], list[Any]]:
        """Positive and negative."""
        return self.call("Encode", clip=self.clip, plan=plan or self.usual_plan(), adapter=self.adapter if adapter else None)

    def patch(self, model: Any = None, *, adapter: Any = True, **settings: Any) -> Any:
        """The model through Patch Model; the embedded one with its adapter, unless others are given."""
        given = self.adapter if adapter is True else adapter or None
        return self.call("PatchModel", model=model or self.model, adapter=given, **settings)[0]

    def latent(self, plan: Any = None, *, width: int = 64, height: int = 64, batch: int = 1) -> dict[str, Any]:
        return self.call("EmptyLatent", plan=plan or self.usual_plan(), width=width, height=height, batch_size=batch)[0]

    def control_net(self) -> comfy.controlnet.ControlNet:
        """A ControlNet of the embedded UNet's shape, of random weights."""
        config = {name: value for name, value in self.model.model.model_config.unet_config.items()
                  if name not in ("out_channels", "transformer_depth_output", "dtype")}
        module = comfy.cldm.cldm.ControlNet(hint_channels=3, operations=comfy.ops.disable_weight_init, **config)
        for number, (name, weight) in enumerate(module.named_parameters()):
            if weight.ndim > 1:
                weight.data.copy_(draw(*weight.shape, seed=number) * weight[0].numel() ** -0.5)
            else:
                weight.data.fill_(float(name.endswith("weight")))  # of norms
        return comfy.controlnet.ControlNet(module.eval().requires_grad_(False), load_device=torch.device("cpu"))

    def sample(self, model: Any, conditioning: tuple[list[Any], list[Any]], latent: dict[str, Any], **settings: Any) -> Any:
        """Layered KSampler: latent, trajectory, context maps."""
        usual: dict[str, Any] = {
            "seed": 5, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple",
            "positive": conditioning[0], "negative": conditioning[1], "latent_image": latent}
        return self.call("Sampler", model=model, **(usual | settings))


def sigmas(model: Any, steps: int = 2) -> Tensor:
    """From timestep 999 on, evenly."""
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def denoise(
    model: Any, conditioning: tuple[list[Any], list[Any]], noise: Tensor, *, levels: Tensor | None = None, steps: int = 2,
    cfg: float = 3.0, start: Tensor | None = None, callback: Callable[..., None] | None = None,
) -> Tensor:
    """As SamplerCustom does, with Euler; ``start`` is a latent that the noise is added to."""
    return comfy.sample.sample_custom(
        model, noise, cfg, comfy.samplers.sampler_object("euler"), sigmas(model, steps) if levels is None else levels,
        *conditioning, torch.zeros_like(noise) if start is None else start, callback=callback, disable_pbar=True, seed=0)
