"""Names of a diffusers AutoencoderKL's weights in the naming of the original latent diffusion code, which ComfyUI has.

ComfyUI's own conversion is for four stages; this one takes any number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["to_ldm_vae"]

_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def to_ldm_vae(weights: Mapping[str, Tensor], stages: int) -> dict[str, Tensor]:
    """The same weights under their other names; linear attention weights as 1x1 convolutions."""
    return {_name(name, stages): _shape(name, weight) for name, weight in weights.items()}


def _shape(name: str, weight: Tensor) -> Tensor:
    return weight[:, :, None, None] if ".attentions." in name and weight.ndim == 2 else weight


def _name(name: str, stages: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    # The original counts up stages from the picture, diffusers from the latent.
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{stages - 1 - int(found[1])}", name)
    name = re.sub(r"(up\.\d+)\.resnets\.(\d+)", r"\1.block.\2", name)
    name = re.sub(r"(up\.\d+)\.upsamplers\.0", r"\1.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    for part, original in _ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{part}.", f"mid.attn_1.{original}.")
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
