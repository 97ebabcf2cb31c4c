"""The LayerD protocol against cases worked out by hand and against brute force; the baselines that it is used on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.baselines import one_layer, thresholded_maps
from dreamlayer_core.evaluation.layerd import (
    LayerScores,
    color_l1,
    compare_layers,
    group_layers,
    layers_of,
    mean_scores,
    merge_gain,
    pair_cost,
    warping_path,
)
from dreamlayer_core.evaluation.pictures import true_pictures
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.scenes import make_scene

torch.set_num_threads(1)

RED, GREEN, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)


def layer(color: tuple[float, float, float], columns: slice, *, alpha: float = 1.0, height: int = 4, width: int = 8) -> Tensor:
    """One colour (black under alpha 0) in some columns, RGBA (4, h, w)."""
    rgba = torch.zeros(4, height, width)
    rgba[:3, :, columns] = torch.tensor(color)[:, None, None]
    rgba[3, :, columns] = alpha
    return rgba


def ground(color: tuple[float, float, float] = WHITE) -> Tensor:
    return layer(color, slice(None))


def random_stack(count: int, *, seed: int) -> Tensor:
    """An opaque ground and rectangles of one colour each, some half transparent, in eight bits."""
    numbers = np.random.default_rng(seed)
    layers = [ground(tuple(numbers.random(3)))]
    for _ in range(count - 1):
        left, width = int(numbers.integers(0, 6)), int(numbers.integers(1, 5))
        layers.append(layer(tuple(numbers.random(3)), slice(left, left + width), alpha=float(numbers.choice([1.0, 0.5]))))
    return torch.stack(layers)


# Grouping


def test_layers_that_hide_nothing_of_each_other_are_one_group() -> None:
    grouped = group_layers(torch.stack([ground(), layer(RED, slice(0, 2)), layer(BLUE, slice(4, 6))]))
    both = layer(RED, slice(0, 2)) + layer(BLUE, slice(4, 6))
    torch.testing.assert_close(grouped, torch.stack([ground(), both]))


def test_groups_are_peeled_from_the_top() -> None:
    # Blue lies on red, green is free: it goes with the topmost, though it stands below red in the stack.
    layers = torch.stack([ground(), layer(GREEN, slice(6, 8)), layer(RED, slice(0, 3)), layer(BLUE, slice(2, 4))])
    grouped = group_layers(layers)
    top = layer(GREEN, slice(6, 8)) + layer(BLUE, slice(2, 4))
    torch.testing.assert_close(grouped, torch.stack([ground(), layer(RED, slice(0, 3)), top]))


def test_the_least_alpha_of_eight_bits_counts_as_touching_and_less_does_not() -> None:
    red = layer(RED, slice(0, 2))
    for alpha, pairs in ((1 / 255, 3), (0.4 / 255, 2)):
        blue = layer(BLUE, slice(4, 6))
        blue[3, :, 0] = alpha
        stack = torch.stack([ground(), red, blue])
        scores = compare_layers(stack, stack)
        assert scores is not None and scores[0].pairs == pairs


# The cost of a pair


def test_the_colour_error_is_a_mean_over_the_true_layers_pixels_not_weighted_by_alpha() -> None:
    truth, predicted = layer(RED, slice(0, 4), alpha=0.1), layer(BLUE, slice(0, 2), alpha=1.0)
    truth[3, :, 0] = 1.0
    # Columns 0 and 1: red against blue, 2/3. Columns 2 and 3: red against the black under alpha 0, 1/3.
    assert color_l1(predicted, truth) == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 / 3) / 4)
    # min: 1 + 0.1 of columns 0 and 1; max: 1 + 1 + 0.1 + 0.1.
    assert pair_cost(predicted, truth) == pytest.approx((0.5 + 1 - 1.1 / 2.2) / 2)


def test_empty_layers_have_no_colour_error_and_no_overlap() -> None:
    empty = torch.zeros(4, 4, 8)
    assert color_l1(ground(), empty) == 0 and pair_cost(empty, empty) == 0.5
    assert pair_cost(ground(), ground()) == 0


# Time warping


def paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    """Every monotone path from the first to the last pair."""
    if rows == columns == 1:
        yield [(0, 0)]
        return
    for down, across in ((1, 1), (1, 0), (0, 1)):
        if rows - down >= 1 and columns - across >= 1:
            for path in paths(rows - down, columns - across):
                yield [*path, (rows - 1, columns - 1)]


@pytest.mark.parametrize(("rows", "columns"), list(itertools.product(range(1, 6), range(1, 5))))
def test_no_path_is_cheaper(rows: int, columns: int) -> None:
    for seed in range(5):
        costs = np.random.default_rng(seed).random((rows, columns))
        found = warping_path(costs)
        every = list(paths(rows, columns))
        assert found in every
        assert sum(costs[p] for p in found) == pytest.approx(min(sum(costs[p] for p in path) for path in every))


def test_ties_go_diagonally_first_then_to_the_previous_prediction() -> None:
    assert warping_path(np.zeros((3, 3))) == [(0, 0), (1, 1), (2, 2)]
    assert warping_path(np.zeros((4, 2))) == [(0, 0), (1, 0), (2, 0), (3, 1)]
    assert warping_path(np.zeros((2, 4))) == [(0, 0), (0, 1), (0, 2), (1, 3)]
    # Two steps, over (0, 1) or over (1, 0), cost the same and less than the diagonal one; the previous prediction is row 0.
    assert warping_path(np.array([[0.0, -1.0], [-1.0, 0.0]])) == [(0, 0), (0, 1), (1, 1)]


# The whole protocol


def test_the_truth_scores_perfectly_at_every_number_of_merges() -> None:
    stack = random_stack(4, seed=1)
    scores = compare_layers(stack, stack)
    assert scores is not None and len(scores) == 6
    assert all((s.l1, s.iou, s.cost) == (0, 1, 0) for s in scores)


def test_a_case_by_hand() -> None:
    """The prediction cut the red bar in two overlapping layers: (bottom, bottom), (both halves, bar); one merge heals it."""
    truth = torch.stack([ground(), layer(RED, slice(0, 4))])
    predicted = torch.stack([ground(), layer(RED, slice(0, 3)), layer(RED, slice(2, 4))])
    scores = compare_layers(predicted, truth)
    assert scores is not None
    # Straight colours: a half misses a quarter (then a half) of the bar's pixels, where black is 1/3 from red.
    assert scores[0].pairs == 3
    assert scores[0].l1 == pytest.approx((0 + 1 / 3 * 1 / 4 + 1 / 3 * 1 / 2) / 3)
    assert scores[0].iou == pytest.approx((1 + 3 / 4 + 1 / 2) / 3)
    assert scores[0].cost == pytest.approx((scores[0].l1 + 1 - scores[0].iou) / 2)
    assert scores[1:] == (LayerScores(l1=0.0, iou=1.0, cost=0.0, pairs=2),) * 5


def test_merging_the_truth_counts_as_well_and_its_gain_is_the_likeness_won() -> None:
    predicted = torch.stack([ground(), layer(RED, slice(0, 4))])
    truth = torch.stack([ground(), layer(RED, slice(0, 3)), layer(RED, slice(2, 4))])
    scores = compare_layers(predicted, truth)
    assert scores is not None and scores[1].cost == 0 and scores[0].cost > 0
    # Merged: twice 1. Before: 1 less each half's cost, with the bar as the truth that counts.
    halves = [(1 / 3 * 1 / 4 + 1 / 4) / 2, (1 / 3 * 1 / 2 + 1 / 2) / 2]
    gain = merge_gain(truth, predicted, [(0, 0), (1, 1), (2, 1)], 1)
    assert gain == pytest.approx(sum(halves))


def test_two_layers_are_never_merged_and_nothing_is_merged_for_a_loss() -> None:
    first = torch.stack([ground(), layer(RED, slice(0, 4))])
    second = torch.stack([ground(RED), layer(BLUE, slice(4, 8))])
    scores = compare_layers(first, second)
    assert scores is not None and len(set(scores)) == 1
    right = torch.stack([ground(), layer(RED, slice(0, 4)), layer(BLUE, slice(2, 6)), layer(GREEN, slice(5, 8))])
    scores = compare_layers(right, right)
    assert scores is not None and {s.pairs for s in scores} == {4}


@pytest.mark.parametrize("seed", range(12))
def test_merges_never_make_the_stacks_less_alike_by_much_and_stop_for_good(seed: int) -> None:
    predicted, truth = random_stack(2 + seed % 4, seed=seed), random_stack(2 + seed % 5, seed=100 + seed)
    scores = compare_layers(predicted, truth, merges=8)
    assert scores is not None and len(scores) == 9
    stopped = next((k for k in range(8) if scores[k] == scores[k + 1]), 8)
    assert len(set(scores[stopped:])) == 1
    assert stopped <= len(group_layers(predicted)) + len(group_layers(truth)) - 4 or stopped == 0
    shorter = compare_layers(predicted, truth, merges=2)
    assert shorter == scores[:3]


def test_stacks_of_one_layer_are_skipped_unless_they_are_wanted() -> None:
    stack = random_stack(3, seed=2)
    assert compare_layers(stack[:1], stack) is None and compare_layers(stack, stack[:1]) is None
    scores = compare_layers(stack[:1], stack, fewest=1)
    assert scores is not None and scores[0].iou < 1


def test_means_are_over_pictures_and_leave_skipped_ones_out() -> None:
    a, b = (tuple(LayerScores(l1=l1, iou=iou, cost=(l1 + 1 - iou) / 2, pairs=2) for _ in range(2))
            for l1, iou in ((0.1, 0.6), (0.3, 0.8)))
    assert mean_scores([]) == mean_scores([None]) == ()
    means = mean_scores([a, None, b])
    assert len(means) == 2 and (means[0].l1, means[0].iou, means[0].pairs) == (pytest.approx(0.2), pytest.approx(0.7), 4)


# Stacks, and the baselines


def scene_stack(seed: int) -> tuple[LayerStack, Tensor, Tensor]:
    """Layers, picture and alphas (f, h, w) of a true scene."""
    truth = true_pictures(make_scene(seed, foregrounds=2, size=(96, 96), split="test"))[0]
    assert truth.background is not None and truth.colors is not None and truth.alphas is not None
    layers = [Layer(name="background", color=truth.background, alpha=torch.ones(1, 96, 96))]
    layers += [Layer(name="object", color=c, alpha=a[None]) for c, a in zip(truth.colors, truth.alphas, strict=True)]
    return LayerStack(width=96, height=96, layers=tuple(layers)), truth.whole, truth.alphas


def test_layers_of_a_stack_have_their_place_and_opacity_and_hidden_ones_are_none() -> None:
    dot = Layer(name="dot", color=torch.ones(3, 2, 2), alpha=torch.ones(1, 2, 2), x=3, y=-1, opacity=0.5)
    stack = LayerStack(width=8, height=4, layers=(Layer(name="g", color=ground()[:3], alpha=ground()[3:]), dot))
    rgba = layers_of(stack)
    assert rgba.shape == (2, 4, 4, 8) and rgba[1, 3].sum() == 1.0 and rgba[1, 3, 0, 3:5].tolist() == [0.5, 0.5]
    assert len(layers_of(stack.with_layer(1, visible=False))) == 1
    with pytest.raises(InputError, match="'dot' has blend mode multiply"):
        layers_of(stack.with_layer(1, blend_mode="multiply"))
    with pytest.raises(InputError, match="without visible layers"):
        layers_of(stack.with_layer(1, visible=False).with_layer(0, visible=False))


@pytest.mark.parametrize("seed", range(3))
def test_the_baselines_lie_between_nothing_and_the_truth(seed: int) -> None:
    stack, picture, alphas = scene_stack(seed)
    truth = layers_of(stack)
    small = torch.nn.functional.interpolate(alphas[None], (24, 24), mode="area")[0]
    results = [compare_layers(layers_of(s), truth, fewest=1) for s in (one_layer(picture), thresholded_maps(picture, small))]
    trivial, thresholded = (result[0] for result in results if result is not None)
    assert 0 < thresholded.cost < trivial.cost
    assert trivial.pairs == len(group_layers(truth))


def test_one_layer_is_the_picture() -> None:
    picture = torch.rand(3, 5, 7)
    stack = one_layer(picture)
    assert (stack.width, stack.height, len(stack.layers)) == (7, 5, 1)
    assert torch.equal(stack.background.rgba, torch.cat([picture, torch.ones(1, 5, 7)]))


def test_thresholded_maps_share_pixels_out_and_fill_the_background() -> None:
    picture = torch.full((3, 32, 32), 0.6)
    picture[:, 8:16, 8:24] = 0.1
    maps = torch.zeros(2, 32, 32)
    maps[0, 8:16, 8:18], maps[1, 8:16, 14:24] = 0.9, 0.7
    stack = thresholded_maps(picture, maps, names=["left", "right"])
    first, second = (layer.alpha[0] for layer in stack.foregrounds)
    assert [layer.name for layer in stack.layers] == ["background", "left", "right"]
    assert first.sum() == 8 * 10 and second.sum() == 8 * 6 and (first * second).sum() == 0
    torch.testing.assert_close(stack.background.color, torch.full((3, 32, 32), 0.6))
    assert torch.equal(thresholded_maps(picture, maps[:0]).background.color, picture)
    everywhere = thresholded_maps(picture, torch.ones(1, 4, 4)).background.color
    torch.testing.assert_close(everywhere, picture.mean((1, 2), keepdim=True).expand_as(picture))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compare_layers(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4)), "\\(layers, 4, h, w\\)"),
        (lambda: compare_layers(torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 4, 5)), "both of one size"),
        (lambda: one_layer(torch.zeros(4, 4, 4)), "give \\(3, h, w\\)"),
        (lambda: thresholded_maps(torch.zeros(3, 4, 4), torch.zeros(4, 4)), "give \\(f, h, w\\)"),
        (lambda: thresholded_maps(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4), threshold=1.0), "threshold 1.0"),
        (lambda: thresholded_maps(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4), names=["a", "b"]), "2 names for 1"),
    ],
)
def test_values_that_do_not_fit_are_refused(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]
