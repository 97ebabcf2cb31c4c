"""Layers held to the picture that they were found in: alphas to where context maps have them, colours to what is seen."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .config import PictureFit
from .errors import InputError
from .layers import LayerStack

__all__ = ["confine_alphas", "fit_colors", "fit_stack", "visible_shares"]

_CLAIMED = 0.5  # of a context map: from here on a cell is the layer's
_ROUNDS = 8
_FAINT = 1e-3  # sums of squared shares; less is nothing to be seen


def confine_alphas(alphas: Tensor, maps: Tensor, margin: int) -> Tensor:
    """Alphas (f, 1, h, w), 0 farther than ``margin`` pixels from where their context maps (f, h, w) in [0, 1] claim the picture.

    A layer sampled from a picture may hold a second object that is not its own: its map says which is. A map that
    claims nothing confines nothing. Raises InputError for maps of another number or size.
    """
    if alphas.shape != (len(maps), 1, *maps.shape[1:]):
        raise InputError(f"got maps {tuple(maps.shape)} for alphas {tuple(alphas.shape)}; give (f, h, w) for (f, 1, h, w)")
    claimed = (maps > _CLAIMED).to(alphas)[:, None]
    near = functional.max_pool2d(claimed, (2 * margin + 1, 1), stride=1, padding=(margin, 0))  # a square, a side at a time
    near = functional.max_pool2d(near, (1, 2 * margin + 1), stride=1, padding=(0, margin))
    return torch.where(claimed.amax((-2, -1), keepdim=True) > 0, alphas * near, alphas)


def visible_shares(alphas: Tensor) -> Tensor:
    """(k, 1, h, w), bottom to top: the factor of every layer's colour in the composite (Eq. 1), α_i · Π_{j>i} (1 − α_j)."""
    shares, free = list[Tensor](), torch.ones_like(alphas[0])
    for alpha in reversed(alphas.unbind()):
        shares.append(free * alpha)
        free = free * (1 - alpha)
    return torch.stack(shares[::-1])


def fit_colors(picture: Tensor, colors: Tensor, alphas: Tensor, fixed: int = 0) -> Tensor:
    """The least change of colours (k, 3, h, w) by which layers with alphas (k, 1, h, w) show the picture (3, h, w), in [0, 1].

    With the shares w of Eq. 1 and r what the composite misses of the picture, c_i + w_i r / Σ w_j²: the least-squares solution
    of smallest norm, again for what [0, 1] cuts off. What is hidden stays as it is. The ``fixed`` lowest layers come out
    unchanged, and their part of r stays missing.
    """
    shares = visible_shares(alphas)
    steps, fitted = shares / shares.square().sum(dim=0).clamp(min=_FAINT), colors
    for _ in range(_ROUNDS):
        missed = picture - (shares * fitted).sum(dim=0)
        fitted = (fitted + steps * missed).clamp(0, 1)
    return torch.cat([colors[:fixed], fitted[fixed:]])


def fit_stack(
    stack: LayerStack, picture: Tensor, maps: Tensor | None = None, *, margin: int = 0, fit: PictureFit | None = None
) -> LayerStack:
    """The stack with its layers held to ``picture`` (3, height, width), by the context maps (f, height, width) of its foregrounds.

    All layers come out on the whole canvas; hidden ones keep their colours. ``margin``: pixels that an object may reach beyond
    its map, half a cell of the maps. Without maps, as without CACA, alphas stay. Raises InputError for a picture or maps that are not the stack's, and for blend modes, whose colours are not what is seen.
    """
    fit = fit or PictureFit()
    if tuple(picture.shape) != (3, stack.height, stack.width):
        raise InputError(f"got a picture of shape {tuple(picture.shape)}; give {(3, stack.height, stack.width)}, the stack's canvas")
    if blended := [layer for layer in stack.layers if layer.visible and layer.blend_mode != "normal"]:
        raise InputError(f"layer {blended[0].name!r} has blend mode {blended[0].blend_mode}; leave it out, or hide it")
    layers = [layer.on_canvas(stack.width, stack.height) for layer in stack.layers]
    alphas = torch.stack([layer.alpha for layer in layers])
    if fit.confine and maps is not None:
        alphas = torch.cat([alphas[:1], confine_alphas(alphas[1:], maps, margin)])
    colors = torch.stack([layer.color for layer in layers])
    if fit.colors != "none":
        opacities = torch.tensor([layer.opacity if layer.visible else 0.0 for layer in layers]).reshape(-1, 1, 1, 1)
        colors = fit_colors(picture.to(colors), colors, alphas * opacities, fixed=1 if fit.colors == "foregrounds" else 0)
    return replace(stack, layers=tuple(
        replace(layer, color=color, alpha=alpha) for layer, color, alpha in zip(layers, colors, alphas, strict=True)))
