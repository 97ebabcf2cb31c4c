"""Layers that are worked out from a picture instead of made by a prompt: effects, and the residual."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from .effects import Effects, find_effects, is_effect, with_effects, without_effects
from .layers import Layer, LayerStack
from .residual import eight_bit, is_residual, without_residual

__all__ = ["TakenOff", "is_derived", "own_layers", "plain_stack", "take_off", "with_light_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TakenOff:
    """A stack of a maker's own layers alone, and what was taken off it; ``effects`` None where it had none."""

    stack: LayerStack
    effects: Effects | None
    residual: bool


def is_derived(layer: Layer) -> bool:
    """Whether a layer holds effects or a residual, by its name and blend mode."""
    return is_effect(layer) or is_residual(layer)


def own_layers(stack: LayerStack) -> tuple[int, ...]:
    """The numbers of the layers that are not derived."""
    return tuple(index for index, layer in enumerate(stack.layers) if not is_derived(layer))


def take_off(stack: LayerStack) -> TakenOff:
    """The stack without residual and effects, so that its layers count as they did before those were laid in.

    Raises InputError for a stack of such layers only.
    """
    whole = without_residual(stack)
    plain, effects = without_effects(whole)
    return TakenOff(stack=plain, effects=effects, residual=len(whole.layers) < len(stack.layers))


def with_light_of(stack: LayerStack, picture: Tensor) -> LayerStack:
    """The stack with effects layers by which it flattens, as a file holds it, to ``picture`` (3, h, w) in [0, 1].

    Raises InputError for a stack that is not opaque, as `find_effects` does.
    """
    return with_effects(stack, find_effects(eight_bit(stack), picture))


def plain_stack(stack: LayerStack) -> LayerStack:
    """The stack without derived layers; as it is if it has no others."""
    kept = own_layers(stack)
    return replace(stack, layers=tuple(stack.layers[index] for index in kept)) if kept else stack
