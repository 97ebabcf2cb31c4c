"""The metrics measured on scenes whose truth is known: how far the classifier, and so every figure, can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ..scenes import Scene, make_scene
from .classifier import COLOR_NAMES, KIND_NAMES, SceneClassifier
from .metrics import measure, objects_found
from .pictures import true_pictures, wanted_objects
from .recognition import Wanted, contains_object

__all__ = ["validate_classifier"]

_FIRST_SEED = 500_000  # far from the scenes that models are evaluated on


def _scenes(count: int) -> Iterator[Scene]:
    return (make_scene(seed, split="test") for seed in range(_FIRST_SEED, _FIRST_SEED + count))


def _near_misses(wanted: Sequence[Wanted]) -> list[Wanted]:
    """What a picture of the wanted objects does not show: their kinds in the next colour, the next kinds in their colours."""
    near = [Wanted(want.kind, _after(want.color, COLOR_NAMES)) for want in wanted]
    near += [Wanted(_after(want.kind, KIND_NAMES), want.color) for want in wanted]
    return [one for one in near if one not in wanted]


def _after(name: str, names: Sequence[str]) -> str:
    return names[(names.index(name) + 1) % len(names)]


@torch.no_grad()
def validate_classifier(classifier: SceneClassifier, scenes: int = 100) -> dict[str, float]:
    """Means over held-out true scenes; ``plain_*`` are of composites without shadows.

    ``detection`` is the share of pictures with objects in which one is found (``purity`` is its counterpart on backgrounds),
    ``wrong_found`` of objects that are found though the picture has only others, of the same kind or the same colour.
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
        for absent in _near_misses(wanted):
            values.setdefault("wrong_found", []).extend(objects_found(classifier, harmonised.whole, [absent]))
    return {name: round(sum(v) / len(v), 4) for name, v in values.items() if v} | {"scenes": float(scenes)}
