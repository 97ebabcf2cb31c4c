"""What the classifier's scores say of a picture: what stands in a region, where a named object is, is there any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from .classifier import COLOR_NAMES, KIND_NAMES, NONE, DenseScores

__all__ = ["Wanted", "contains_object", "object_masks", "recognise"]

_SMALLEST = 0.0015  # share of the picture that a region needs to be looked at at all: 25 pixels at 128x128
_CORE = 0.05  # an object holds a square of this share of the picture's side; smaller specks are none
_LEAST_SCORE = 0.05  # of P(kind) P(colour) for a pixel to belong to a wanted object; less shows another, or a wrong one
_CLEAR_SCORE = 0.25  # both about 1/2: the pixel says so by itself
_CLEAR_SHARE = 0.5  # of an object's pixels that must be clear, or what is seen is not what was wanted


@dataclass(frozen=True)
class Wanted:
    """The object that a prompt asks for."""

    kind: str
    color: str

    @property
    def indices(self) -> tuple[int, int]:
        return KIND_NAMES.index(self.kind), COLOR_NAMES.index(self.color)


def recognise(scores: DenseScores, regions: Tensor) -> list[tuple[int, int]]:
    """Kind and colour index of what each region (n, h, w) in [0,1] of the n pictures shows.

    The kind is ``NONE`` where the region is (almost) empty or shows no object.
    """
    weights = regions / regions.sum((-2, -1), keepdim=True).clamp(min=1e-6)
    kind = (scores.kind * weights[:, None]).sum((-2, -1)).argmax(1)
    color = (scores.color * (weights * scores.present)[:, None]).sum((-2, -1)).argmax(1)
    empty = regions.mean((-2, -1)) < _SMALLEST
    return [(NONE if none else int(k), int(c)) for k, c, none in zip(kind, color, empty, strict=True)]


def object_masks(scores: DenseScores, wanted: Sequence[Wanted]) -> Tensor:
    """Where each wanted object is in one picture: scores of n = 1 -> masks (f, h, w), 0 or 1, that never overlap.

    A pixel that shows an object belongs to the wanted one it looks most like, if it looks like any. An object is there
    only if most of its pixels clearly are of its kind and colour, else its mask is empty.
    """
    kind, color, present = scores.kind[0], scores.color[0], scores.present[0]
    given_object = kind[:NONE] / present.clamp(min=1e-6)
    likeness = torch.stack([given_object[k] * color[c] for k, c in (w.indices for w in wanted)])
    mine = (torch.arange(len(wanted))[:, None, None] == likeness.argmax(0)) & (present > 0.5)
    masks, clear = (mine & (likeness > least) for least in (_LEAST_SCORE, _CLEAR_SCORE))
    certain = clear.sum((-2, -1)) > _CLEAR_SHARE * masks.sum((-2, -1))
    return (masks & certain[:, None, None]).float()


def contains_object(masks: Tensor) -> Tensor:
    """Whether each mask (n, h, w) holds a whole object, not just specks: an all-one square of the smallest object's core."""
    side = max(3, round(min(masks.shape[-2:]) * _CORE)) | 1
    holes = max_pool2d(1 - (masks > 0.5).float()[:, None], side, 1, side // 2)[:, 0]
    return (holes < 0.5).flatten(1).any(1)
