"""ControlNet (Zhang et al. 2023) for single rows: a hint acts on its own layer, and no other row is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from .errors import InputError, WeightsError
from .image_prompts import check_strength
from .row_weights import Rows, select_rows

__all__ = ["LayerControl", "Residuals", "check_control", "control_residuals", "fit_controls", "fit_hint",
           "lone_row_controls"]

# What a ControlNet must have in common with the UNet whose features it adds to.
_SHARED = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim", "addition_embed_type")


class Residuals(NamedTuple):
    """What is added to a UNet's skip connections, and to its middle block's output."""

    down: tuple[Tensor, ...]
    middle: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerControl:
    """A ControlNet and its hint (3, H, W) in [0, 1] for some rows.

    Raises InputError for another shape and for strengths outside 0 to 10.
    """

    model: ControlNetModel
    rows: Rows
    hint: Tensor
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self.strength, "a ControlNet")
        if self.hint.ndim != 3 or self.hint.shape[0] != 3:
            raise InputError(f"got a hint of shape {tuple(self.hint.shape)}; give a picture, (3, height, width)")

    def fitted(self, size: tuple[int, int], grid: tuple[int, int], scale: int) -> LayerControl:
        """With its hint on latents of ``grid`` (height, width), ``scale`` pixels a cell, of a picture (width, height)."""
        cells = 2 ** (len(cast(Any, self.model.config).conditioning_embedding_out_channels) - 1)
        width, height = (max(1, round(side * cells / scale)) for side in size)
        hint = fit_hint(self.hint, (width, height))
        edges = (0, grid[1] * cells - width, 0, grid[0] * cells - height)
        return replace(self, hint=functional.pad(hint[None], edges, mode="replicate")[0])


def fit_hint(hint: Tensor, size: tuple[int, int]) -> Tensor:
    """A hint (3, h, w) at a size (width, height), as ComfyUI fits it: its middle in that shape, the nearest pixels."""
    (width, height), (rows, columns) = size, hint.shape[-2:]
    wider = (columns / rows) / (width / height)
    left, top = (min(round(side * (1 - share) / 2), (side - 1) // 2)
                 for side, share in ((columns, min(1 / wider, 1)), (rows, min(wider, 1))))
    middle = hint[:, top : rows - top, left : columns - left]
    return functional.interpolate(middle[None].float(), (height, width), mode="nearest-exact")[0]


def fit_controls(
    controls: Sequence[LayerControl], unet: UNet2DConditionModel, rows: int, size: tuple[int, int], grid: tuple[int, int],
    scale: int,
) -> list[LayerControl]:
    """Controls for latents of ``grid`` in stacks of ``rows``, see `LayerControl.fitted`.

    Raises InputError for rows that a stack lacks, WeightsError for a ControlNet made for another UNet.
    """
    for control in controls:
        select_rows(control.rows, rows)
        check_control(control.model, unet)
    return [control.fitted(size, grid, scale) for control in controls]


def lone_row_controls(controls: Sequence[LayerControl], rows: int) -> list[LayerControl]:
    """Those of the global row in stacks of ``rows``, for a pass that has no other row."""
    return [replace(control, rows="global") for control in controls
            if rows - 1 in range(rows)[select_rows(control.rows, rows)]]


def check_control(control: ControlNetModel, unet: UNet2DConditionModel) -> None:
    """Raises WeightsError for a ControlNet that was made for another UNet than this one."""
    own, base = cast(Any, control.config), cast(Any, unet.config)
    for name in _SHARED:
        found, wanted = (list(value) if isinstance(value := one.get(name), list | tuple) else value
                         for one in (own, base))
        if found != wanted:
            raise WeightsError(
                f"a ControlNet with {name} {found}, but this UNet has {wanted}; give one made for this base model")


def control_residuals(
    controls: Sequence[LayerControl], latents: Tensor, timestep: int | Tensor, embeddings: Tensor,
    added: dict[str, Tensor] | None, height: int,
) -> Residuals | None:
    """The sum of what fitted controls add to a call of the UNet: zeros but in their own rows; None without any.

    latents ((stacks row), 4, h, w), stacks of ``height`` rows; ``embeddings`` and ``added`` (SDXL's) are those of the call.
    """
    total: Residuals | None = None
    places = torch.arange(len(latents), device=latents.device).view(-1, height)
    for control in controls:
        index = places[:, select_rows(control.rows, height)].flatten()
        if len(index) and control.strength:
            own = _spread(_of_rows(control, latents, timestep, embeddings, added, index), index, len(latents))
            total = own if total is None else _sum(total, own)
    return total


def _of_rows(
    control: LayerControl, latents: Tensor, timestep: int | Tensor, embeddings: Tensor, added: dict[str, Tensor] | None,
    index: Tensor,
) -> Residuals:
    steps = timestep[index] if isinstance(timestep, Tensor) and timestep.ndim else timestep
    down, middle = cast(Any, control.model)(
        latents[index], steps, encoder_hidden_states=embeddings[index],
        controlnet_cond=control.hint.to(latents).expand(len(index), -1, -1, -1), conditioning_scale=control.strength,
        added_cond_kwargs=added and {name: value[index] for name, value in added.items()}, return_dict=False)
    return Residuals(tuple(down), middle)


def _spread(own: Residuals, index: Tensor, rows: int) -> Residuals:
    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(rows, *values.shape[1:]).index_copy_(0, index, values)

    return Residuals(tuple(map(spread, own.down)), spread(own.middle))


def _sum(one: Residuals, other: Residuals) -> Residuals:
    return Residuals(tuple(a + b for a, b in zip(one.down, other.down, strict=True)), one.middle + other.middle)
