"""The two namings of a Stable Diffusion UNet's layers: diffusers' and that of the original (ldm) code."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["ldm_names"]

_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def ldm_names(names: Collection[str]) -> dict[str, str]:
    """ldm's name of the layers of one UNet, by diffusers'; those that ldm does not have are left out."""
    layers = sum(re.fullmatch(r"down_blocks\.0\.resnets\.\d+\.conv1", name) is not None for name in names)
    crossed = {found[1] for name in names if (found := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
    found = {name: _ldm_name(name, layers, crossed) for name in names}
    return {name: own for name, own in found.items() if own is not None}


def _ldm_name(name: str, layers: int, crossed: Collection[str]) -> str | None:
    """``layers`` resnets a down block, one more an up block; ``crossed`` are the up blocks with cross-attention."""
    if name in _ENDS:
        return _ENDS[name]
    if found := _MIDDLE.fullmatch(name):
        kind, index, part = found.groups()
        return f"middle_block.1.{part}" if kind == "attentions" else _resnet(f"middle_block.{2 * int(index)}", part)
    if not (found := _BLOCK.fullmatch(name)):
        return None
    side, stage, kind, index, part = found.groups()
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (int(stage) + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{(layers + 1) * int(stage) + layers}.{2 if stage in crossed else 1}.conv"
    number = (layers + 1) * int(stage) + int(index)
    block = f"input_blocks.{number + 1}" if side == "down" else f"output_blocks.{number}"
    return f"{block}.1.{part}" if kind == "attentions" else _resnet(f"{block}.0", part)


def _resnet(block: str, part: str) -> str | None:
    return f"{block}.{_RESNET[part]}" if part in _RESNET else None
