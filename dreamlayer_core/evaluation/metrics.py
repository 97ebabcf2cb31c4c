"""One function a metric. Each returns the values of one picture, so that means and intervals are taken over pictures.

Shapes: pictures (3, h, w), alphas (f, h, w), colours (f, 3, h, w), straight, all in [0,1]; foregrounds bottom to top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..composite import gray_fill
from .classifier import DenseScores
from .pictures import LayeredPicture, visible_parts
from .recognition import Wanted, contains_object, object_masks, recognise
from .shadows import foot_errors, has_shadow

__all__ = [
    "Look",
    "alpha_iou",
    "background_purity",
    "composite_psnr",
    "foreground_overlap",
    "layer_matches",
    "measure",
    "objects_found",
    "placed_matches",
    "soft_iou",
]

Look = Callable[[Tensor], DenseScores]
"""The classifier: pictures (n, 3, h, w) in [0,1] -> what it sees at every pixel."""
_HIGHEST_PSNR = 60.0  # dB; identical pictures would be infinite


def layer_matches(
    classifier: Look, colors: Tensor, alphas: Tensor, wanted: Sequence[Wanted]
) -> tuple[list[float], list[float]]:
    """Is every foreground layer, on gray, of the kind asked for, and of the colour? Two lists of 0 and 1."""
    seen = recognise(classifier(gray_fill(colors, alphas[:, None])), alphas)
    kinds = [float(kind == want.indices[0]) for (kind, _), want in zip(seen, wanted, strict=True)]
    shades = [float(color == want.indices[1]) for (_, color), want in zip(seen, wanted, strict=True)]
    return kinds, shades


def placed_matches(
    classifier: Look, picture: Tensor, alphas: Tensor, wanted: Sequence[Wanted]
) -> list[float]:
    """Does the picture show every object, right in kind and colour, where the visible part of its layer is?"""
    regions = visible_parts(alphas)
    scores = classifier(picture[None].expand(len(regions), -1, -1, -1))
    return [float(seen == want.indices) for seen, want in zip(recognise(scores, regions), wanted, strict=True)]


def objects_found(classifier: Look, picture: Tensor, wanted: Sequence[Wanted]) -> list[float]:
    """Is every object, right in kind and colour, anywhere in the picture? Needs no layers."""
    return contains_object(object_masks(classifier(picture[None]), wanted)).float().tolist()


def soft_iou(first: Tensor, second: Tensor) -> Tensor:
    """Σ min / Σ max over the last two axes; 0 for an empty union."""
    union = torch.maximum(first, second).sum((-2, -1))
    return torch.minimum(first, second).sum((-2, -1)) / union.clamp(min=1e-6)


def alpha_iou(classifier: Look, whole: Tensor, alphas: Tensor, wanted: Sequence[Wanted]) -> list[float]:
    """IoU of every foreground's visible alpha with its object's mask in the row's own global picture.

    A generated picture has no true masks: they are the classifier's. An object that is not there has an IoU of 0.
    """
    return soft_iou(visible_parts(alphas), object_masks(classifier(whole[None]), wanted)).tolist()


def foreground_overlap(alphas: Tensor) -> list[float]:
    """Σ min(α_i, α_j) / min(Σ α_i, Σ α_j) of every pair: 0 apart, 1 where one lies within the other.

    Pairs with an empty layer are left out.
    """
    areas = alphas.sum((-2, -1))
    pairs = torch.combinations(torch.arange(len(alphas))).tolist()
    return [float(torch.minimum(alphas[i], alphas[j]).sum() / torch.minimum(areas[i], areas[j]))
            for i, j in pairs if float(torch.minimum(areas[i], areas[j])) >= 1]


def background_purity(classifier: Look, background: Tensor) -> list[float]:
    """1 for a background in which no object is found, of any kind and colour."""
    return [1 - float(contains_object(classifier(background[None]).present)[0])]


def composite_psnr(composite: Tensor, whole: Tensor) -> list[float]:
    """PSNR in dB of the plain composite against the global picture, at most 60."""
    error = float((composite - whole).square().mean())
    return [min(_HIGHEST_PSNR, float(-10 * torch.log10(torch.tensor(max(error, 1e-12)))))]


def measure(classifier: Look, picture: LayeredPicture, wanted: Sequence[Wanted]) -> dict[str, list[float]]:
    """All metrics of one picture; those of layers are left out where there are none."""
    found = {"found": objects_found(classifier, picture.whole, wanted)}
    plain = picture.composite
    if plain is None or picture.background is None or picture.colors is None or picture.alphas is None:
        return found
    kinds, shades = layer_matches(classifier, picture.colors, picture.alphas, wanted)
    return found | {
        "layer_kind": kinds,
        "layer_color": shades,
        "layer_object": [k * c for k, c in zip(kinds, shades, strict=True)],
        "placed": placed_matches(classifier, picture.final, picture.alphas, wanted),
        "alpha_iou": alpha_iou(classifier, picture.whole, picture.alphas, wanted),
        "overlap": foreground_overlap(picture.alphas),
        "purity": background_purity(classifier, picture.background),
        "psnr": composite_psnr(plain, picture.whole),
        "shadow": has_shadow(picture.final, picture.background, picture.alphas),
        "foot_error": foot_errors(picture.final, picture.whole, picture.alphas),
    }
