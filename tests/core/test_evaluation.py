"""Metrics, intervals and the Fréchet distance on scenes whose truth is known; no classifier is needed here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.classifier import COLOR_NAMES, KIND_NAMES, NONE, DenseScores
from dreamlayer_core.evaluation.frechet import frechet_distance, frechet_error
from dreamlayer_core.evaluation.intervals import difference, estimate
from dreamlayer_core.evaluation.metrics import (
    alpha_iou,
    background_purity,
    composite_psnr,
    foreground_overlap,
    layer_matches,
    objects_found,
    placed_matches,
    soft_iou,
)
from dreamlayer_core.evaluation.pictures import LayeredPicture, true_pictures, visible_parts, wanted_objects
from dreamlayer_core.evaluation.recognition import Wanted, contains_object, object_masks, recognise
from dreamlayer_core.evaluation.shadows import darkening, foot_errors, foot_regions, has_shadow, shadow_error
from dreamlayer_core.scenes import Scene, make_scene


def _scene(seed: int, foregrounds: int = 2) -> Scene:
    return make_scene(seed, foregrounds=foregrounds, split="test")


class _Oracle:
    """Scores of a perfect classifier, from a scene's truth: a stand-in that isolates the metrics from the trained net."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        visible = torch.from_numpy(scene.visible)
        kind, color = torch.zeros(NONE + 1, 128, 128), torch.full((len(COLOR_NAMES), 128, 128), 1e-3)
        for share, item in zip(visible, scene.objects, strict=True):
            kind[KIND_NAMES.index(item.kind)] += share
            color[COLOR_NAMES.index(item.color)] += share
        kind[NONE] = 1 - visible.sum(0)
        self.scores = DenseScores(kind[None], color[None] / color.sum(0))

    def __call__(self, pictures: torch.Tensor) -> DenseScores:
        count = len(pictures)
        return DenseScores(self.scores.kind.expand(count, -1, -1, -1), self.scores.color.expand(count, -1, -1, -1))


def _truth(scene: Scene) -> LayeredPicture:
    return true_pictures(scene)[0]


def _alphas(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene.alphas)


@pytest.mark.parametrize("seed", range(3))
def test_visible_parts_are_the_scenes_own(seed):
    scene = _scene(seed, 4)
    assert torch.allclose(visible_parts(_alphas(scene)), torch.from_numpy(scene.visible), atol=1e-6)


def test_without_foregrounds_nothing_is_visible_and_nothing_breaks():
    empty = torch.zeros(0, 8, 8)
    assert visible_parts(empty).shape == (0, 8, 8)
    assert darkening(torch.ones(3, 8, 8), torch.ones(3, 8, 8), empty) == []
    assert shadow_error(torch.ones(3, 8, 8), torch.ones(3, 8, 8), empty, empty) is None


def test_a_true_scene_is_its_own_plain_composite_apart_from_its_shadows():
    scene = _scene(3)
    harmonised, plain = true_pictures(scene)
    away = torch.from_numpy(scene.shadows).amax(0) == 0
    assert plain.composite is not None
    assert torch.equal(plain.final, plain.composite)
    assert torch.equal(harmonised.final, harmonised.whole)
    if scene.ground not in ("lake", "marble"):  # their reflections reach beyond the shadows
        assert torch.allclose(plain.final[:, away], harmonised.final[:, away], atol=1e-5)
    assert harmonised.final.mean() < plain.final.mean()


@pytest.mark.parametrize("seed", range(4))
def test_with_a_perfect_classifier_the_truth_scores_perfectly(seed):
    scene = _scene(seed)
    truth, oracle, wanted = _truth(scene), _Oracle(scene), wanted_objects(scene)
    assert objects_found(oracle, truth.whole, wanted) == [1.0, 1.0]
    assert placed_matches(oracle, truth.whole, _alphas(scene), wanted) == [1.0, 1.0]
    # Masks are hard and alphas soft: the edges, one pixel wide, are what is missing to 1.
    assert min(alpha_iou(oracle, truth.whole, _alphas(scene), wanted)) > 0.85


def test_a_layer_is_judged_by_its_own_pixels():
    scene = _scene(1)
    truth, oracle = _truth(scene), _Oracle(scene)
    assert truth.colors is not None and truth.alphas is not None
    visible = visible_parts(truth.alphas)
    kinds, colors = layer_matches(oracle, truth.colors, visible, wanted_objects(scene))
    assert kinds == colors == [1.0, 1.0]
    swapped = list(reversed(wanted_objects(scene)))
    kinds, colors = layer_matches(oracle, truth.colors, visible, swapped)
    assert [k * c for k, c in zip(kinds, colors, strict=True)] == [0.0, 0.0]


def test_an_empty_layer_matches_nothing():
    scene = _scene(1)
    oracle, nothing = _Oracle(scene), torch.zeros(2, 128, 128)
    kinds, _ = layer_matches(oracle, torch.zeros(2, 3, 128, 128), nothing, wanted_objects(scene))
    assert kinds == [0.0, 0.0]
    assert alpha_iou(oracle, _truth(scene).whole, nothing, wanted_objects(scene)) == [0.0, 0.0]


def test_an_object_that_is_not_in_the_picture_is_not_found():
    scene = _scene(2)
    absent = next(Wanted(k, c) for k in KIND_NAMES for c in COLOR_NAMES
                  if all(k != o.kind and c != o.color for o in scene.objects))
    assert objects_found(_Oracle(scene), _truth(scene).whole, [absent]) == [0.0]


def test_masks_of_wanted_objects_never_overlap_and_stay_where_objects_are():
    scene = _scene(5, 4)
    masks = object_masks(_Oracle(scene).scores, wanted_objects(scene))
    assert masks.sum(0).max() <= 1
    assert not masks.sum(0)[torch.from_numpy(scene.alphas).amax(0) < 0.3].any()


def test_a_region_shows_what_most_of_it_is():
    scene = _scene(1)
    scores, wanted = _Oracle(scene).scores, wanted_objects(scene)
    both = DenseScores(scores.kind.expand(2, -1, -1, -1), scores.color.expand(2, -1, -1, -1))
    assert recognise(both, torch.from_numpy(scene.visible)) == [w.indices for w in wanted]
    background = 1 - torch.from_numpy(scene.alphas).amax(0)
    assert recognise(scores, background[None])[0][0] == NONE


def test_specks_are_no_object():
    masks = torch.zeros(3, 128, 128)
    masks[1, ::3, ::3] = 1
    masks[2, 40:52, 40:52] = 1
    assert contains_object(masks).tolist() == [False, False, True]


def test_purity_is_zero_where_an_object_is_left_in_the_background():
    scene, empty = _scene(1), _scene(1, 0)
    assert background_purity(_Oracle(scene), _truth(scene).whole) == [0.0]
    assert background_purity(_Oracle(empty), _truth(empty).whole) == [1.0]


def test_soft_iou_is_one_for_equal_and_zero_for_disjoint_or_empty_masks():
    mask = torch.zeros(1, 8, 8)
    mask[:, :4] = 0.5
    assert soft_iou(mask, mask).item() == pytest.approx(1)
    assert soft_iou(mask, mask.flip(1)).item() == 0
    assert soft_iou(mask, mask / 2).item() == pytest.approx(0.5)
    assert soft_iou(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)).item() == 0


def test_overlap_is_the_share_of_the_smaller_layer_and_leaves_empty_layers_out():
    alphas = torch.zeros(3, 8, 8)
    alphas[0, :4], alphas[1, 2:] = 1, 1
    assert foreground_overlap(alphas) == [0.5]  # two of the four rows of the smaller one; the third layer is empty
    assert foreground_overlap(alphas[:1]) == []


def test_psnr_of_equal_pictures_is_capped_and_falls_with_the_error():
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert composite_psnr(picture, picture) == [60.0]
    assert composite_psnr(picture, picture + 0.1)[0] == pytest.approx(20, abs=0.01)


def _shadow_shares(count: int, change) -> tuple[float, float]:
    """Share of objects with a shadow in true pictures and in ``change`` of their plain composites."""
    true: list[float] = []
    plain: list[float] = []
    for seed in range(count):
        scene = make_scene(1000 + seed, split="test")
        harmonised, composited = true_pictures(scene)
        assert harmonised.background is not None
        true += has_shadow(harmonised.final, harmonised.background, _alphas(scene))
        plain += has_shadow(change(composited.final), harmonised.background, _alphas(scene))
    return sum(true) / len(true), sum(plain) / len(plain)


def test_true_pictures_have_shadows_and_plain_composites_have_none():
    true, plain = _shadow_shares(24, lambda picture: picture)
    assert true >= 0.95
    assert plain == 0


def test_a_picture_that_is_darker_all_over_blurred_and_noisy_has_no_shadows_for_that():
    generator = torch.Generator().manual_seed(0)

    def worn(picture: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(picture, 2)
        soft = torch.nn.functional.interpolate(small[None], picture.shape[-2:], mode="bilinear")[0]
        return (soft * 0.8 + 0.05 * torch.randn(picture.shape, generator=generator)).clamp(0, 1)

    assert _shadow_shares(24, worn)[1] <= 0.05


def test_foot_regions_are_free_of_objects_and_at_the_foot():
    scene = _scene(4, 3)
    regions = foot_regions(_alphas(scene))
    assert not (regions & (_alphas(scene).amax(0) > 0.1)).any()
    for region, item in zip(regions, scene.objects, strict=True):
        if region.any():
            assert abs(float(region.nonzero()[:, 0].float().mean()) - item.foot[1]) < item.scale


def test_an_object_without_visible_ground_is_left_out():
    alphas = torch.ones(1, 32, 32)
    assert darkening(torch.ones(3, 32, 32), torch.ones(3, 32, 32), alphas) == [None]


def test_shadow_error_is_zero_for_the_truth_and_the_darkening_for_a_plain_composite():
    scene = _scene(7)
    harmonised, plain = true_pictures(scene)
    shadows = torch.from_numpy(scene.shadows)
    assert shadow_error(harmonised.final, harmonised.whole, shadows, _alphas(scene)) == 0
    error = shadow_error(plain.final, harmonised.whole, shadows, _alphas(scene))
    assert error is not None and error > 0.05


def test_the_error_at_the_feet_is_the_shadows():
    scene = _scene(7, 2)
    harmonised, plain = true_pictures(scene)
    assert plain.composite is not None
    assert set(foot_errors(harmonised.final, harmonised.whole, _alphas(scene))) == {0.0}
    errors = foot_errors(plain.composite, harmonised.whole, _alphas(scene))
    rest = ~foot_regions(_alphas(scene)).any(0) & (_alphas(scene).amax(0) < 0.02)
    assert len(errors) == 2 and min(errors) > 3 * float((plain.composite - harmonised.whole).abs().mean(0)[rest].mean())
    assert foot_errors(plain.composite, harmonised.whole, torch.ones(1, 128, 128)) == []


def _features(count: int, seed: int, *, shift: float = 0, scale: float = 1) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_frechet_distance_is_zero_for_equal_sets_and_grows_with_corruption():
    features = _features(400, 0)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    distances = [frechet_distance(features + level * _features(400, 1), features) for level in (0.0, 0.3, 0.6, 1.2)]
    assert distances == sorted(distances) and distances[-1] > 0.5


def test_frechet_distance_is_that_of_two_known_gaussians():
    # Whitened samples, so that the moments are exact: |m|² + d (1 - s)² for N(0, 1) and N(m, s²).
    features = _features(400, 0).double()
    features = features - features.mean(0)
    white = features @ torch.linalg.inv(torch.linalg.cholesky(features.T.cov())).T
    assert frechet_distance(white, 2 * white + 3) == pytest.approx(6 * 9 + 6 * 1, rel=1e-6)
    assert frechet_distance(white, 2 * white + 3) == pytest.approx(frechet_distance(2 * white + 3, white), rel=1e-6)


def test_frechet_error_tells_how_far_fresh_samples_scatter():
    reference = _features(2000, 1)
    fresh = torch.tensor([frechet_distance(_features(200, seed, shift=0.5), reference) for seed in range(10, 40)])
    assert frechet_error(_features(200, 2, shift=0.5), reference) == pytest.approx(float(fresh.std()), rel=0.6)


@pytest.mark.parametrize(("first", "second"), [((1, 6), (5, 6)), ((5, 6), (5, 4)), ((5,), (5,))])
def test_frechet_distance_refuses_what_has_no_covariance(first, second):
    with pytest.raises(InputError, match="at least two samples"):
        frechet_distance(torch.zeros(first), torch.zeros(second))


def test_estimate_is_the_pooled_mean_and_its_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        values = [(rng.random(int(rng.integers(1, 5))) < 0.7).astype(float).tolist() for _ in range(60)]
        found = estimate(values)
        assert found is not None
        assert found.mean == pytest.approx(sum(map(sum, values)) / sum(map(len, values)))
        assert found.low <= found.mean <= found.high
        hits += found.low <= 0.7 <= found.high
    assert hits >= 34


def test_estimate_of_a_share_of_one_still_has_an_interval():
    found = estimate([[1.0]] * 200)
    assert found is not None and (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 3 / 200)
    assert estimate([[], []]) is None


def test_differences_of_pairs_are_sharper_than_the_difference_of_means():
    rng = np.random.default_rng(0)
    hard = rng.random(100)
    first = [[float(x)] for x in hard]
    second = [[float(x + 0.02)] for x in hard]
    found, alone = difference(first, second), estimate(first)
    assert found is not None and alone is not None
    assert found.mean == pytest.approx(0.02) and found.excludes_zero
    assert found.high - found.low < 0.001 < alone.high - alone.low
    assert difference(first, [[] for _ in first]) is None


def test_a_picture_without_layers_has_no_composite():
    whole = torch.zeros(3, 4, 4)
    picture = LayeredPicture(whole=whole, final=whole)
    assert picture.composite is None
    assert dataclasses.replace(picture, background=whole).composite is None
