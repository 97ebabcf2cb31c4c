"""Two ways to take a picture apart that any method must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..filling import fill_smoothly
from ..layers import Layer, LayerStack

__all__ = ["one_layer", "thresholded_maps"]


def one_layer(picture: Tensor) -> LayerStack:
    """The trivial stack: the picture (3, h, w) in [0, 1] as its own background."""
    _check_picture(picture)
    height, width = picture.shape[-2:]
    alpha = torch.ones_like(picture[:1])
    return LayerStack(width=width, height=height, layers=(Layer(name="background", color=picture, alpha=alpha),))


def thresholded_maps(
    picture: Tensor, maps: Tensor, *, names: Sequence[str] | None = None, threshold: float = 0.5, margin: int = 1
) -> LayerStack:
    """Context maps (f, h', w') in [0, 1], cut at a threshold, as alphas; the picture's (3, h, w) pixels as colours.

    A pixel that several maps claim goes to the highest. The background is the picture with all that is claimed, and
    `margin` pixels around it, filled from what lies around (`fill_smoothly`); without any free pixel it is the picture's mean.
    Raises InputError for shapes that do not fit or a threshold outside [0, 1).
    """
    _check_picture(picture)
    if maps.ndim != 3 or 0 in maps.shape[1:] or not 0 <= threshold < 1:
        raise InputError(f"got maps {tuple(maps.shape)} and threshold {threshold}; give (f, h, w) and one from 0 to 1")
    if names is not None and len(names) != len(maps):
        raise InputError(f"got {len(names)} names for {len(maps)} maps; give one for each")
    masks = _masks(maps.to(picture), (int(picture.shape[-2]), int(picture.shape[-1])), threshold)
    background = _filled(picture, masks.any(dim=0, keepdim=True), margin)
    stack = one_layer(background)
    labels = names or [f"layer {index}" for index in range(1, len(maps) + 1)]
    found = [Layer(name=label, color=picture, alpha=mask[None].to(picture.dtype))
             for label, mask in zip(labels, masks, strict=True)]
    return LayerStack(width=stack.width, height=stack.height, layers=(*stack.layers, *found))


def _masks(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Boolean (f, h, w): where a map is over the threshold and the highest of all."""
    if len(maps) == 0:
        return torch.zeros(0, *size, dtype=torch.bool)
    large = functional.interpolate(maps[None], size, mode="bilinear")[0]
    highest = torch.arange(len(maps), device=maps.device)[:, None, None] == large.argmax(dim=0)
    return (large > threshold) & highest


def _filled(picture: Tensor, claimed: Tensor, margin: int) -> Tensor:
    grown = functional.max_pool2d(claimed[None].float(), 2 * margin + 1, stride=1, padding=margin)[0] > 0
    if bool(grown.all()):
        return picture.mean(dim=(-2, -1), keepdim=True).expand_as(picture)
    return fill_smoothly(picture, ~grown)


def _check_picture(picture: Tensor) -> None:
    if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape:
        raise InputError(f"got a picture of shape {tuple(picture.shape)}; give (3, h, w)")
