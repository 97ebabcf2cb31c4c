"""Over-compositing of layers, straight and premultiplied, and clean colours at soft edges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InputError
from .layers import Layer, LayerStack

__all__ = [
    "blend",
    "clean_layer",
    "composite",
    "composite_premultiplied",
    "defringe",
    "flatten",
    "flatten_rgba",
    "gray_fill",
    "premultiply",
    "unpremultiply",
    "white_fill",
]

_EDGE_REACH = 2  # pixels: how near a more solid pixel must be for a soft one to be an edge and not glass
_SOURCE = 0.9  # solidity from which a pixel's colour may spread to others
_HAZE = 8 / 255  # alpha below which a decoder means nothing
_FAINT = 0.1  # alpha below which a colour is mostly rounding


def premultiply(color: Tensor, alpha: Tensor) -> Tensor:
    """Straight (..., 3, h, w) to premultiplied by alpha (..., 1, h, w)."""
    return color * alpha


def unpremultiply(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied (..., 3, h, w) back to straight; black where alpha (..., 1, h, w) is 0."""
    covered = alpha > 0
    return torch.where(covered, premultiplied / torch.where(covered, alpha, 1.0), 0.0)


def composite(colors: Tensor, alphas: Tensor) -> Tensor:
    """Layers (..., k, 3, h, w) with alphas (..., k, 1, h, w), bottom to top, to one picture (..., 3, h, w). (Eq. 1)

    The alphas count as given, the background's too: where it is below 1 the picture darkens to black.
    """
    _check_layers(colors, alphas)
    return composite_premultiplied(premultiply(colors, alphas), alphas)


def composite_premultiplied(premultiplied: Tensor, alphas: Tensor) -> Tensor:
    """`composite` of colours that are already multiplied by their alpha. (Eq. 1)"""
    _check_layers(premultiplied, alphas)
    layers, covers = premultiplied.unbind(dim=-4), alphas.unbind(dim=-4)
    picture = layers[0]
    for layer, cover in zip(layers[1:], covers[1:], strict=True):
        picture = layer + (1 - cover) * picture
    return picture


def _check_layers(colors: Tensor, alphas: Tensor) -> None:
    color, alpha = tuple(colors.shape), tuple(alphas.shape)
    if len(color) < 4 or color[-3] != 3 or color[-4] < 1 or alpha != (*color[:-3], 1, *color[-2:]):
        raise InputError(f"got colours {color} and alphas {alpha}; give (..., k, 3, h, w) and (..., k, 1, h, w)")


def gray_fill(color: Tensor, alpha: Tensor, gray: float = 0.5) -> Tensor:
    """Paint (..., 3, h, w) on solid gray by its alpha, as the VAE sees a foreground in training. (Eq. 2)"""
    return color * alpha + gray * (1 - alpha)


def white_fill(color: Tensor, alpha: Tensor) -> Tensor:
    """Paint (..., 3, h, w) on white by its alpha, as viewers show a picture that is to have none."""
    return color * alpha + (1 - alpha)


def defringe(color: Tensor, alpha: Tensor, *, matte: float | None = 0.5) -> Tensor:
    """Straight colours (..., 3, h, w) without a fringe of the matte at soft edges (..., 1, h, w).

    Takes a solid `matte` out of colours that were painted on it (None: they were not), then lets solid colours
    run outward through soft edges and on under alpha 0. Opaque pixels keep their colour bit for bit, and
    glass, which has no solid pixel beside it, keeps its texture.
    """
    flat_color, flat_alpha = color.reshape(-1, *color.shape[-3:]), alpha.reshape(-1, *alpha.shape[-3:])
    clean = flat_color if matte is None else _unmix(flat_color, flat_alpha, matte)
    solidity, seen = _solidity(flat_alpha), (flat_alpha / _FAINT).clamp(0, 1)
    # Only the most solid pixels around may give their colour away; how far a pixel keeps its own is gentler.
    fill = _spread(clean, ((solidity - _SOURCE) / (1 - _SOURCE)).clamp(0, 1) * seen)
    return torch.lerp(fill, clean, solidity.square() * seen).reshape(color.shape)


def clean_layer(color: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A decoded layer without its haze: colours (..., 3, h, w) and alphas (..., 1, h, w), as a person would save them.

    Transparent decoders leave traces of alpha far from the object, which nobody sees and which make its box the whole
    canvas; and colours under alpha 0 that show when the layer is scaled.
    """
    alpha = torch.where(alpha < _HAZE, 0.0, alpha)
    # Their colours are straight: there is nothing to unmix.
    return defringe(color, alpha, matte=None), alpha


def _unmix(color: Tensor, alpha: Tensor, matte: float) -> Tensor:
    """Undo `gray_fill` (n, 3, h, w); what rounding pushes out of [0, 1] is clamped."""
    straight = unpremultiply(color - matte * (1 - alpha), alpha)
    return torch.where(alpha >= 1, color, straight.clamp(0, 1))


def _solidity(alpha: Tensor) -> Tensor:
    """Alpha (n, 1, h, w) relative to the most solid pixel nearby: 1 in solids and within glass, less at edges."""
    nearby = functional.max_pool2d(alpha, 2 * _EDGE_REACH + 1, stride=1, padding=_EDGE_REACH)
    return torch.where(nearby > 0, alpha / nearby.clamp_min(1e-6), 0.0)


def _spread(color: Tensor, weight: Tensor) -> Tensor:
    """Fill colours (n, 3, h, w) outward from where weight (n, 1, h, w) is high: a pyramid of weighted means."""
    if color.shape[-2:] == (1, 1):
        return color
    size = tuple(color.shape[-2:])
    mean = unpremultiply(_halve(color * weight), _halve(weight))
    # The largest weight, not the sum: many doubtful pixels of an edge must not outweigh the solid behind them.
    coarse = _spread(mean, functional.max_pool2d(weight, 2, ceil_mode=True))
    fill = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return torch.lerp(fill, color, weight)


def _halve(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def flatten(stack: LayerStack) -> Tensor:
    """The picture (3, h, w) of a stack with its visibility, opacity, placement and blend modes. (Eq. 1)

    What no layer covers is black.
    """
    return _merge(stack)[0]


def flatten_rgba(stack: LayerStack) -> Tensor:
    """`flatten` with straight alpha (4, h, w), for stacks whose background is hidden or transparent."""
    premultiplied, alpha = _merge(stack)
    return torch.cat([unpremultiply(premultiplied, alpha).clamp(0, 1), alpha])


def _merge(stack: LayerStack) -> tuple[Tensor, Tensor]:
    """Premultiplied picture (3, h, w) and its alpha (1, h, w)."""
    like = stack.background
    picture = like.color.new_zeros(3, stack.height, stack.width)
    covered = like.alpha.new_zeros(1, stack.height, stack.width)
    for layer in stack.layers:
        if layer.visible:
            picture, covered = _lay(picture, covered, layer.on_canvas(stack.width, stack.height))
    return picture, covered


def _lay(picture: Tensor, covered: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    alpha = layer.alpha * layer.opacity
    color = layer.color
    if layer.blend_mode != "normal":
        # Where there is no backdrop there is nothing to blend with.
        color = torch.lerp(color, blend(unpremultiply(picture, covered), color, layer.blend_mode), covered)
    return premultiply(color, alpha) + (1 - alpha) * picture, alpha + (1 - alpha) * covered


def blend(backdrop: Tensor, source: Tensor, mode: str) -> Tensor:
    """Blend opaque colours of equal shape by one of `BLEND_MODES` (W3C Compositing and Blending, section 10)."""
    return _BLENDS[mode](backdrop, source)


def _screen(backdrop: Tensor, source: Tensor) -> Tensor:
    return backdrop + source - backdrop * source


def _hard_light(backdrop: Tensor, source: Tensor) -> Tensor:
    return torch.where(source <= 0.5, backdrop * 2 * source, _screen(backdrop, 2 * source - 1))


def _normal(backdrop: Tensor, source: Tensor) -> Tensor:
    return source


def _overlay(backdrop: Tensor, source: Tensor) -> Tensor:
    return _hard_light(source, backdrop)


def _difference(backdrop: Tensor, source: Tensor) -> Tensor:
    return (backdrop - source).abs()


_BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": _normal,
    "multiply": torch.mul,
    "screen": _screen,
    "overlay": _overlay,
    "darken": torch.minimum,
    "lighten": torch.maximum,
    "hard-light": _hard_light,
    "difference": _difference,
}
