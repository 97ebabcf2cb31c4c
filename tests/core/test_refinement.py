import pytest
import torch

from dreamlayer_core.attention.refinement import refine_maps, self_refine, sharpen_map, weigh_tokens
from dreamlayer_core.config import TRAINING_FREE, LayerAttentionConfig, MapRefinement
from dreamlayer_core.errors import InputError
from dreamlayer_core.layer_run import context_downscale


@pytest.fixture
def maps() -> torch.Tensor:
    maps = torch.rand(2, 3, 16, generator=torch.Generator().manual_seed(0))
    return maps - maps.amin(-1, keepdim=True)


def test_no_refinement_returns_the_maps_themselves(maps):
    assert refine_maps(maps, (4, 4), MapRefinement(), torch.rand(2, 16, 16)) is maps


def test_a_token_that_looks_everywhere_weighs_nothing_and_a_peak_more_than_a_slope():
    even, slope, peak = torch.full((8,), 0.25), torch.linspace(0.2, 0.3, 8), torch.tensor([2.0, *[0.0] * 7])
    weighed = weigh_tokens(torch.stack([even, slope, peak], dim=-1)[None])
    assert weighed.shape == (1, 8, 3)
    assert torch.allclose(weighed[..., 0], torch.zeros(8))
    assert (weighed.sum(1) / torch.tensor([2.0, 2.0, 2.0]))[0].argsort().tolist() == [0, 1, 2]


def test_tokens_are_weighed_alike_however_much_attention_they_get():
    attention = torch.rand(1, 8, 2, generator=torch.Generator().manual_seed(0))
    louder = attention * torch.tensor([1.0, 5.0])
    assert torch.allclose(weigh_tokens(louder), weigh_tokens(attention) * torch.tensor([1.0, 5.0]))


def test_self_refinement_spreads_a_claim_over_places_that_attend_to_each_other():
    linked = torch.block_diag(torch.full((2, 2), 0.5), torch.full((2, 2), 0.5))[None]
    claim = torch.tensor([[[1.0, 0, 0, 0]]])
    assert torch.equal(self_refine(claim, linked, 1), torch.tensor([[[1.0, 1, 0, 0]]]))
    assert self_refine(claim, linked, 0) is claim


def test_self_refinement_reads_rows_of_the_attention(maps):
    attention = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(1)).softmax(-1)
    naive = torch.stack([torch.stack([sum(attention[s, i, j] * maps[s, f, j] for j in range(16)) for i in range(16)])
                         for s in range(2) for f in range(3)]).view(2, 3, 16)
    low, high = naive.amin(-1, keepdim=True), naive.amax(-1, keepdim=True)
    assert torch.allclose(self_refine(maps, attention, 1), (naive - low) / (high - low), atol=1e-4)


def test_a_floor_takes_weak_claims_away_and_keeps_zero_and_one():
    sharp = sharpen_map(torch.tensor([0.0, 0.4, 0.7, 1.0]), floor=0.4, exponent=2)
    assert torch.allclose(sharp, torch.tensor([0.0, 0.0, 0.25, 1.0]))


@pytest.mark.parametrize("settings", [TRAINING_FREE, MapRefinement(smoothing=2, sharpening=3, self_attention=2)])
def test_refined_maps_lie_between_zero_and_one(maps, settings):
    refined = refine_maps(maps, (4, 4), settings, torch.rand(2, 16, 16).softmax(-1))
    assert refined.shape == maps.shape
    assert refined.amin() >= 0
    assert torch.allclose(refined.amax(-1), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("native", "scales", "expected"),
    [(64, (1, 2, 4), 4), (128, (2, 4), 4), (96, (1, 2, 4), 4), (32, (2, 4, 8), 2), (64, (), None)])
def test_without_an_adapter_the_stage_of_sixteen_cells_reads_the_map(native, scales, expected):
    assert context_downscale(LayerAttentionConfig(), None, scales, native) == expected


def test_a_configured_stage_goes_first_and_none_is_needed_with_caca_off():
    assert context_downscale(LayerAttentionConfig(downscale=1), None, (1, 2, 4), 64) == 1
    assert context_downscale(LayerAttentionConfig(caca=False), None, (1, 2, 4), 64) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_weighting": "loud"}, "'loud'"),
        ({"self_attention": 9}, "9 passes"),
        ({"smoothing": -1.0}, "-1.0 cells"),
        ({"smoothing": float("nan")}, "nan cells"),
        ({"floor": 1.0}, "floor of 1.0"),
        ({"sharpening": 0.0}, "sharpening of 0.0"),
    ],
)
def test_unusable_refinements_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MapRefinement(**options)
