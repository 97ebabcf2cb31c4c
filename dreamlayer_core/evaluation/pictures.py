"""The layered pictures that metrics look at: generated ones, and true scenes in the same form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..composite import composite
from ..layers import Layer, LayerStack
from ..scenes import Scene
from ..scenes.shapes import FloatArray
from .recognition import Wanted

__all__ = ["LayeredPicture", "scene_stack", "true_pictures", "visible_parts", "wanted_objects"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredPicture:
    """One picture of a configuration. Tensors in [0,1]; foregrounds bottom to top.

    ``whole`` (3, h, w) is the global picture, sampled (or, of a true scene, painted) with everything in it. ``final`` is what
    a user gets: the plain composite or the harmonised picture; of a base model without layers the global picture itself.
    ``background`` (3, h, w), ``colors`` (f, 3, h, w) and ``alphas`` (f, h, w) are None for such a model.
    """

    whole: Tensor
    final: Tensor
    background: Tensor | None = None
    colors: Tensor | None = None
    alphas: Tensor | None = None

    @property
    def composite(self) -> Tensor | None:
        """The plain composite (3, h, w) of the layers (Eq. 1)."""
        if self.background is None or self.colors is None or self.alphas is None:
            return None
        colors = torch.cat([self.background[None], self.colors])
        alphas = torch.cat([torch.ones_like(self.background[:1]), self.alphas])
        return composite(colors, alphas[:, None])


def _planar(picture: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture, -1, -3)))


def true_pictures(scene: Scene) -> tuple[LayeredPicture, LayeredPicture]:
    """A true scene as a harmonised picture, with the shadows that it has, and as the plain composite of its layers."""
    whole = _planar(scene.picture)
    harmonised = LayeredPicture(
        whole=whole, final=whole, background=_planar(scene.background), colors=_planar(scene.colors),
        alphas=torch.from_numpy(scene.alphas))
    plain = harmonised.composite
    return harmonised, replace(harmonised, final=whole if plain is None else plain)


def scene_stack(scene: Scene) -> LayerStack:
    """The layers of a scene; its shadows and reflections are in the true picture alone."""
    height, width = scene.picture.shape[:2]
    background = Layer(
        name="background", prompt=scene.background_caption, color=_planar(scene.background), alpha=torch.ones(1, height, width))
    foregrounds = [
        Layer(name=item.caption, prompt=item.caption, color=_planar(color), alpha=torch.from_numpy(alpha)[None])
        for item, color, alpha in zip(scene.objects, scene.colors, scene.alphas, strict=True)]
    return LayerStack(width=width, height=height, layers=(background, *foregrounds), global_prompt=scene.whole_caption)


def visible_parts(alphas: Tensor) -> Tensor:
    """What nearer foregrounds leave of every alpha (f, h, w), bottom to top."""
    above = torch.cat([torch.ones_like(alphas[:1]), (1 - alphas.flip(0)).cumprod(0)])[: len(alphas)].flip(0)
    return alphas * above


def wanted_objects(scene: Scene) -> list[Wanted]:
    """What a scene's prompts ask for."""
    return [Wanted(item.kind, item.color) for item in scene.objects]
