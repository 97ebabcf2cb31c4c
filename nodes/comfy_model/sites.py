"""Where the method acts in ComfyUI's UNet. Layers are named as diffusers names them, which is what adapters hold."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import comfy.model_patcher
import comfy.utils
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layer_run import AttentionSites, choose_sites

__all__ = ["Block", "UnetSites", "find_modules", "find_sites", "original_weight"]

Block = tuple[str, int, int]
"""("input" | "middle" | "output", number, transformer of that block), as ``extra_options`` and ``patches_replace`` have it."""


class UnetSites(NamedTuple):
    """Names of all attention layers, with their block, and the key of each K and V weight (``….to_k`` -> key)."""

    blocks: dict[str, Block]
    keys: dict[str, str]
    scales: dict[int, int]  # of each down block with cross-attention: how much smaller than the latent

    def choose(self, model: comfy.model_patcher.ModelPatcher, downscale: int | None) -> AttentionSites:
        """As the core chooses them. InputError for a CACA stage that the UNet lacks."""
        return choose_sites(tuple(self.blocks), self.scales, downscale, lambda name: self._channels(model, name))

    def _channels(self, model: comfy.model_patcher.ModelPatcher, name: str) -> int:
        key = self.keys[f"{name}.to_k"].replace("to_k", "to_q")
        return int(comfy.utils.get_attr(model.model, key).shape[1])


def find_sites(model: comfy.model_patcher.ModelPatcher) -> UnetSites:
    """The attention layers of a MODEL. Raises InputError for what is not a UNet of Stable Diffusion's kind."""
    names = _diffusers_names(model)
    found = [name for name in names if re.search(r"\.attn[12]\.to_k\.weight$", name)]
    if not found:
        raise InputError(
            f"got a model of kind {type(model.model).__name__}; DreamLayer works on Stable Diffusion's UNets "
            "(SD 1.x, 2.x, XL, and the embedded model)")
    blocks, keys = dict[str, Block](), dict[str, str]()
    for name in found:
        site = name.removesuffix(".to_k.weight")
        blocks[site] = _block(names[name])
        for part in ("to_k", "to_v"):
            keys[f"{site}.{part}"] = f"diffusion_model.{names[f'{site}.{part}.weight']}"
    stages = {int(site.split(".")[1]) for site in blocks if site.startswith("down_blocks.")}
    return UnetSites(blocks, keys, {stage: 2**stage for stage in stages})


def find_modules(model: comfy.model_patcher.ModelPatcher) -> dict[str, str]:
    """The UNet's own name of every layer that has weights, and of every attention layer, by diffusers' name.

    Attention layers stand in the order of their numbers. Raises InputError as `find_sites` does.
    """
    names = {name.removesuffix(".weight"): own.removesuffix(".weight")
             for name, own in _diffusers_names(model).items() if name.endswith(".weight")}
    sites = sorted(find_sites(model).blocks, key=lambda site: (site[0], [int(n) for n in re.findall(r"\d+", site)]))
    whole = {site: names[f"{site}.to_q"].removesuffix(".to_q") for site in sites}
    # ComfyUI's table has layers that not every UNet has.
    modules = {name for name, _ in model.model.diffusion_model.named_modules()}
    return {name: own for name, own in (names | whole).items() if own in modules}


def _diffusers_names(model: comfy.model_patcher.ModelPatcher) -> dict[str, str]:
    """The UNet's own name of every weight, by diffusers'; none of what is no UNet."""
    config: dict[str, Any] = getattr(model.model.model_config, "unet_config", {})
    return comfy.utils.unet_to_diffusers(config)


def _block(key: str) -> Block:
    """Of a weight's key, e.g. ``input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight``."""
    place, rest = key.split("_", 1)
    numbers = [int(n) for n in re.findall(r"\.(\d+)(?=\.)", rest)]
    # The middle block has one number less: ComfyUI calls it ("middle", 0).
    return (place, 0 if place == "middle" else numbers[0], numbers[-1])


def original_weight(model: comfy.model_patcher.ModelPatcher, key: str) -> Tensor:
    """A weight without the patches that may be on it just now, fp32, on the CPU."""
    kept = model.backup.get(key)
    weight = kept.weight if kept is not None else comfy.utils.get_attr(model.model, key)
    return weight.detach().to("cpu").float()
