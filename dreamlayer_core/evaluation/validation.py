"""The metrics measured on scenes whose truth is known: how far the classifier, and so every figure, can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..scenes import Scene, make_scene
from .classifier import SceneClassifier
from .metrics import measure
from .pictures import true_pictures, wanted_objects
from .recognition import contains_object

__all__ = ["validate_classifier"]

_FIRST_SEED = 500_000  # far from the scenes that models are evaluated on


def _scenes(count: int) -> Iterator[Scene]:
    return (make_scene(seed, split="test") for seed in range(_FIRST_SEED, _FIRST_SEED + count))


@torch.no_grad()
def validate_classifier(classifier: SceneClassifier, scenes: int = 100) -> dict[str, float]:
    """Means over held-out true scenes; ``plain_*`` are of composites without shadows.

    ``detection`` is the share of pictures with objects in which one is found (``purity`` is its counterpart on backgrounds).
    """
    values: dict[str, list[float]] = {}
    for scene in _scenes(scenes):
        harmonised, plain = true_pictures(scene)
        wanted = wanted_objects(scene)
        for name, result in measure(classifier, harmonised, wanted).items():
            values.setdefault(name, []).extend(result)
        measured = measure(classifier, plain, wanted)
        values.setdefault("plain_placed", []).extend(measured["placed"])
        values.setdefault("plain_shadow", []).extend(measured["shadow"])
        present = classifier(harmonised.whole[None]).present
        values.setdefault("detection", []).append(float(contains_object(present)[0]))
    return {name: round(sum(v) / len(v), 4) for name, v in values.items() if v} | {"scenes": float(scenes)}
