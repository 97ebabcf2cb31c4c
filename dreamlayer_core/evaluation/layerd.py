"""The LayerD protocol (Suzuki et al., ICCV 2025): how near a predicted stack is to the true one, layer by layer.

Two stacks are grouped into as few layers as hide nothing, aligned back to front by dynamic time warping, and compared pair by
pair. Since there is more than one right way to cut a picture into layers, up to K neighbouring layers may be merged, on either
side, where that makes the stacks more alike. Layers are RGBA tensors (k, 4, h, w), straight, bottom to top, in eight bits as the
protocol's files are; the places where it leaves a choice follow its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..composite import premultiply
from ..errors import InputError
from ..layers import LayerStack
from .metrics import soft_iou

__all__ = [
    "MERGES",
    "LayerScores",
    "color_l1",
    "compare_layers",
    "group_layers",
    "layers_of",
    "mean_scores",
    "merge_gain",
    "pair_cost",
    "warping_path",
]

MERGES = 5
_FEWEST_TO_MERGE = 2  # a side with no more layers than this is not merged any further
_Floats = npt.NDArray[np.float64]
_Pairs = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class LayerScores:
    """Plain means over the aligned pairs after at most K merges: `cost` = ½ [l1 + (1 - iou)], small is good."""

    l1: float
    iou: float
    cost: float
    pairs: int


def layers_of(stack: LayerStack) -> Tensor:
    """The visible layers of a stack as RGBA (k, 4, h, w), opacity in their alpha.

    Raises InputError for a stack without visible layers, or with blend modes, which RGBA cannot say: leave effects out.
    """
    for layer in stack.layers:
        if layer.visible and layer.blend_mode != "normal":
            raise InputError(f"layer {layer.name!r} has blend mode {layer.blend_mode}; leave it out, or merge it")
    placed = [layer.on_canvas(stack.width, stack.height) for layer in stack.layers if layer.visible]
    if not placed:
        raise InputError("got a stack without visible layers; show at least one")
    return torch.stack([torch.cat([layer.color, layer.alpha * layer.opacity]) for layer in placed])


def compare_layers(
    predicted: Tensor, truth: Tensor, *, merges: int = MERGES, fewest: int = 2
) -> tuple[LayerScores, ...] | None:
    """Scores after 0, 1, … `merges` merges of stacks (k, 4, h, w); a stack that stops merging early carries its last on.

    None where either stack has under `fewest` layers: the protocol skips those (give 1 to score a one-layer stack all the same).
    Raises InputError for shapes that do not fit.
    """
    _check(predicted, truth)
    if min(len(predicted), len(truth)) < fewest:
        return None
    ours, theirs = group_layers(_eight_bit(predicted)), group_layers(_eight_bit(truth))
    pairs = _align(ours, theirs)
    scores = [_scores(ours, theirs, pairs)]
    while len(scores) <= merges:
        merged = _merge_best(ours, theirs, pairs)
        if merged is None:
            scores += scores[-1:] * (merges + 1 - len(scores))
            break
        ours, theirs = merged
        pairs = _align(ours, theirs)
        scores.append(_scores(ours, theirs, pairs))
    return tuple(scores)


def mean_scores(results: Sequence[tuple[LayerScores, ...] | None]) -> tuple[LayerScores, ...]:
    """Plain means over pictures for every number of merges; skipped pictures (None) are left out. Empty without any."""
    kept = [result for result in results if result is not None]
    return tuple(_mean(level) for level in zip(*kept, strict=True))


def _mean(scores: Sequence[LayerScores]) -> LayerScores:
    count = len(scores)
    return LayerScores(
        l1=sum(s.l1 for s in scores) / count, iou=sum(s.iou for s in scores) / count,
        cost=sum(s.cost for s in scores) / count, pairs=sum(s.pairs for s in scores))


def group_layers(layers: Tensor) -> Tensor:
    """Layers (k, 4, h, w) in as few (g, 4, h, w) as keep what lies over what, bottom to top.

    From the top: whatever no layer above it that is left touches (both alphas over 0) is peeled off as one group.
    """
    masks, left, groups = layers[:, 3] > 0, list(range(len(layers))), list[list[int]]()
    while left:
        top = [i for position, i in enumerate(left) if not any(_touch(masks, i, j) for j in left[position + 1 :])]
        groups.append(top)
        left = [i for i in left if i not in top]
    return torch.stack([_flat(layers[group]) for group in reversed(groups)])


def _touch(masks: Tensor, first: int, second: int) -> bool:
    return bool((masks[first] & masks[second]).any())


def _flat(layers: Tensor) -> Tensor:
    result = layers[0]
    for layer in layers[1:]:
        result = _over(result, layer)
    return result


def _over(lower: Tensor, upper: Tensor) -> Tensor:
    """One RGBA (4, h, w) over another, straight; where neither covers anything the lower's colour stays."""
    below, above = lower[3:], upper[3:]
    alpha = above + (1 - above) * below
    color = premultiply(upper[:3], above) + (1 - above) * premultiply(lower[:3], below)
    seen = alpha > 0
    return torch.cat([torch.where(seen, color / torch.where(seen, alpha, 1.0), lower[:3]), alpha])


def color_l1(predicted: Tensor, truth: Tensor) -> float:
    """Σ_{α_gt > 0} mean_c |p - g| / #{α_gt > 0} of RGBA (4, h, w) on straight colours; 0 for an empty truth.

    A binary mask, not weighted by alpha.
    """
    mask = truth[3] > 0
    return float((predicted[:3] - truth[:3]).abs().mean(dim=0)[mask].sum() / mask.sum().clamp_min(1))


def pair_cost(predicted: Tensor, truth: Tensor) -> float:
    """½ [L1 + (1 - IoU)] of RGBA (4, h, w), in [0, 1]; IoU = Σ min(α) / Σ max(α), 0 for an empty union."""
    return (color_l1(predicted, truth) + 1 - float(soft_iou(predicted[3], truth[3]))) / 2


def _costs(predicted: Tensor, truth: Tensor) -> _Floats:
    return np.array([[pair_cost(p, t) for t in truth] for p in predicted], np.float64)


def _align(predicted: Tensor, truth: Tensor) -> _Pairs:
    return warping_path(_costs(predicted, truth))


def warping_path(costs: _Floats) -> _Pairs:
    """The cheapest monotone path of pairs from (0, 0) to (n - 1, m - 1) through costs (n, m): D = C + min of three neighbours.

    Ties go diagonally first, then to the previous prediction.
    """
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(costs.shape):
        total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    i, j = costs.shape
    path = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda step: float(total[step]))  # the first of equals
        path.append((i - 1, j - 1))
    return path[::-1]


def _scores(predicted: Tensor, truth: Tensor, pairs: _Pairs) -> LayerScores:
    """Means over the pairs of a path."""
    l1 = float(np.mean([color_l1(predicted[i], truth[j]) for i, j in pairs]))
    iou = float(np.mean([float(soft_iou(predicted[i, 3], truth[j, 3])) for i, j in pairs]))
    return LayerScores(l1=l1, iou=iou, cost=(l1 + 1 - iou) / 2, pairs=len(pairs))


def _merge_best(predicted: Tensor, truth: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor] | None:
    """Both stacks after the one merge that gains most, or None where none gains anything. Ties: the truth, then the lowest."""
    ours = _best_gain(predicted, truth, pairs)
    theirs = _best_gain(truth, predicted, [(j, i) for i, j in pairs])
    if ours is None and theirs is None:
        return None
    if theirs is None or (ours is not None and ours[0] > theirs[0]):
        assert ours is not None
        return _merged(predicted, ours[1]), truth
    return predicted, _merged(truth, theirs[1])


def _best_gain(layers: Tensor, others: Tensor, pairs: _Pairs) -> tuple[float, int] | None:
    """The largest gain over 0 of merging two neighbours, and the lower one's index."""
    if len(layers) <= _FEWEST_TO_MERGE:
        return None
    gains = [(merge_gain(layers, others, pairs, i), i) for i in range(len(layers) - 1)]
    best = max(gains, key=lambda found: found[0])
    return best if best[0] > 0 else None


def merge_gain(layers: Tensor, others: Tensor, pairs: _Pairs, index: int) -> float:
    """What merging layers `index` and `index + 1` adds to the likeness (1 - cost) to what the two are paired with.

    Of the partners of both, three assignments count: all to the merged layer; or the lower one's to the merged layer
    and to the next layer above; or the lower one's to the merged layer and the upper one's to that next layer.
    """
    lower = [others[j] for i, j in pairs if i == index]
    upper = [others[j] for i, j in pairs if i == index + 1]
    merged = _over(layers[index], layers[index + 1])
    now = _likeness(layers[index], lower) + _likeness(layers[index + 1], upper)
    rest = [_likeness(merged, upper)]
    if index + 2 < len(layers):
        rest += [_likeness(layers[index + 2], lower), _likeness(layers[index + 2], upper)]
    return _likeness(merged, lower) + max(rest) - now


def _likeness(layer: Tensor, others: Sequence[Tensor]) -> float:
    return sum(1 - pair_cost(layer, other) for other in others)


def _merged(layers: Tensor, index: int) -> Tensor:
    one = _over(layers[index], layers[index + 1])[None]
    return torch.cat([layers[:index], one, layers[index + 2 :]])


def _eight_bit(layers: Tensor) -> Tensor:
    # An alpha that a file would not keep must not count as covered.
    return layers.detach().cpu().double().clamp(0, 1).mul(255).round().div(255)


def _check(predicted: Tensor, truth: Tensor) -> None:
    shapes = tuple(predicted.shape), tuple(truth.shape)
    if any(len(s) != 4 or s[1] != 4 or 0 in s for s in shapes) or shapes[0][2:] != shapes[1][2:]:
        raise InputError(f"got stacks of shape {shapes[0]} and {shapes[1]}; give (layers, 4, h, w), both of one size")
