"""`--effects` and `--residual`: layers laid into a stack just before it is saved, and what its settings say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..composite import flatten
from ..derived import TakenOff, with_light_of
from ..editing import LayerChange, light_edits
from ..effects import move_effects, with_effects
from ..errors import InputError
from ..evaluation.metrics import composite_psnr
from ..layers import OPAQUE, LayerStack
from ..residual import eight_bit, with_residual

__all__ = ["STALE", "LitStack", "check_ground", "lit_stack", "moved_stack", "residual_stack"]

STALE = ("effects", "effects_psnr", "residual", "residual_share", "composite_psnr", "fit")
"""Settings of a stack that are untrue after an edit, or without its derived layers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LitStack:
    """A stack to save, and what to add to its settings."""

    stack: LayerStack
    settings: Mapping[str, object] = field(default_factory=lambda: dict[str, object]())


def lit_stack(stack: LayerStack, harmonized: Tensor) -> LitStack:
    """The stack with layers of what the harmonised picture (3, h, w) changes, and how near it comes as it is saved."""
    layered = with_light_of(stack, harmonized)
    psnr = composite_psnr(flatten(eight_bit(layered)), harmonized.cpu().float())[0]
    return LitStack(stack=layered, settings={"effects": "found", "effects_psnr": round(psnr, 2)})


def moved_stack(source: TakenOff, stack: LayerStack, changes: Sequence[LayerChange]) -> LitStack:
    """The edited stack with the effects that the source had, which went with their objects."""
    if source.effects is None:
        return LitStack(stack=stack)
    moved = move_effects(source.effects, source.stack, light_edits(changes))
    return LitStack(stack=with_effects(stack, moved), settings={"effects": "moved"})


def residual_stack(stack: LayerStack, picture: Tensor) -> LitStack:
    """The stack with a layer on top by which it flattens to the picture (3, h, w) bit for bit."""
    layered = with_residual(stack, picture)
    share = float(layered.layers[-1].alpha.mean())
    return LitStack(stack=layered, settings={"residual": True, "residual_share": round(share, 4)})


def check_ground(stack: LayerStack, changes: Sequence[LayerChange] = ()) -> None:
    """Effects need an opaque background: raises InputError now rather than after minutes of sampling."""
    ground = stack.background
    opacity = next((c.opacity for c in changes if c.layer == 0 and c.opacity is not None), ground.opacity)
    alpha = ground.on_canvas(stack.width, stack.height).alpha * opacity
    if not ground.visible or bool((alpha < OPAQUE).any()):
        raise InputError("got --effects for a stack whose background is hidden or transparent somewhere; make it opaque")
