"""A stack that reproduces a given picture bit for bit in eight bits, by one layer on top."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .composite import flatten
from .errors import InputError
from .layers import Layer, LayerStack

__all__ = ["RESIDUAL_LAYER", "eight_bit", "is_residual", "with_residual", "without_residual"]

RESIDUAL_LAYER = "residual"
_DOUBT = 1e-2  # levels: nearer to the middle between two than this, another machine may round to the other


def eight_bit(stack: LayerStack) -> LayerStack:
    """The stack as a file holds it: colours, alphas and opacities rounded to eight bits, float32."""
    layers = (
        replace(layer, color=_rounded(layer.color), alpha=_rounded(layer.alpha), opacity=round(layer.opacity * 255) / 255)
        for layer in stack.layers
    )
    return replace(stack, layers=tuple(layers))


def with_residual(stack: LayerStack, picture: Tensor) -> LayerStack:
    """`eight_bit(stack)` with a normal layer on top that shows `picture` (3, h, w) where the stack's own picture differs.

    Flattened and rounded to eight bits the result is the picture rounded to eight bits, before and after it was saved as
    PNG folder, ORA or PSD. Residual layers that are there already are replaced. Raises InputError for a picture of
    another size, or for a stack of residual layers only.
    """
    expected = (3, stack.height, stack.width)
    if tuple(picture.shape) != expected or not bool(torch.isfinite(picture).all()):
        raise InputError(f"got a picture of shape {tuple(picture.shape)}; give finite {expected}, the stack's canvas")
    saved = eight_bit(without_residual(stack))
    levels, wanted = flatten(saved) * 255, picture.detach().cpu().float().clamp(0, 1).mul(255).round()
    # Within half a level: what rounds to another one, and what might elsewhere.
    wrong = ((levels - wanted).abs() > 0.5 - _DOUBT).any(dim=0, keepdim=True)
    residual = Layer(name=RESIDUAL_LAYER, color=wanted.div(255), alpha=wrong.float())
    return replace(saved, layers=(*saved.layers, residual))


def without_residual(stack: LayerStack) -> LayerStack:
    """The stack without its residual layers."""
    kept = tuple(layer for layer in stack.layers if not is_residual(layer))
    if not kept:
        raise InputError("got a stack of residual layers only; give at least a background")
    return replace(stack, layers=kept)


def is_residual(layer: Layer) -> bool:
    """Whether a layer is a residual: by its name, and because nobody has asked for it in words."""
    return layer.name == RESIDUAL_LAYER and not layer.prompt


def _rounded(values: Tensor) -> Tensor:
    return values.detach().cpu().float().clamp(0, 1).mul(255).round().div(255)
