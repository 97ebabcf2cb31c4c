import pytest
import torch

from dreamlayer_core.attention.context import cross_attention_map, min_max, smooth_map, spatial_map, spatial_maps
from dreamlayer_core.errors import InputError


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_cross_attention_map_equals_a_loop_over_heads(generator):
    query, key = torch.randn(2, 3, 6, 4, generator=generator), torch.randn(2, 3, 5, 4, generator=generator)
    attention = cross_attention_map(query, key)
    for b in range(2):
        naive = sum(torch.softmax(query[b, h] @ key[b, h].T / 4**0.5, dim=-1) for h in range(3)) / 3
        assert torch.allclose(attention[b], naive, atol=1e-6)
    assert torch.allclose(attention.sum(dim=-1), torch.ones(2, 6))


def test_cross_attention_map_stays_fp32_under_autocast(generator):
    query, key = torch.randn(1, 2, 6, 4, generator=generator), torch.randn(1, 2, 5, 4, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        attention = cross_attention_map(query, key)
    assert torch.equal(attention, cross_attention_map(query, key))
    assert cross_attention_map(query.bfloat16(), key.bfloat16()).dtype == torch.float32


def test_spatial_map_sums_its_span_and_spreads_to_zero_and_one(generator):
    attention = torch.rand(2, 12, 7, generator=generator)
    context_map = spatial_map(attention, (2, 3))
    summed = attention[..., 2] + attention[..., 3] + attention[..., 4]
    low, high = summed.min(dim=-1, keepdim=True).values, summed.max(dim=-1, keepdim=True).values
    assert torch.allclose(context_map, (summed - low) / (high - low), atol=1e-5)
    assert context_map.amin(dim=-1).tolist() == [0, 0]
    assert torch.allclose(context_map.amax(dim=-1), torch.ones(2))


def test_spatial_maps_are_the_spatial_map_of_every_stack_and_foreground(generator):
    attention = torch.rand(2, 12, 9, generator=generator)
    spans = [[(1, 2), (3, 1), (4, 4)], [(1, 5), (6, 2), (8, 1)]]
    maps = spatial_maps(attention, spans)
    assert maps.shape == (2, 3, 12)
    for stack in range(2):
        for foreground, span in enumerate(spans[stack]):
            assert torch.allclose(
                maps[stack, foreground], spatial_map(attention[stack : stack + 1], span)[0], atol=1e-6
            )


def test_permuting_spans_permutes_maps(generator):
    attention, spans = torch.rand(1, 12, 9, generator=generator), [(1, 2), (3, 1), (4, 4)]
    maps = spatial_maps(attention, [spans])
    assert torch.equal(spatial_maps(attention, [[spans[i] for i in (2, 0, 1)]]), maps[:, [2, 0, 1]])


def test_gradient_reaches_the_key(generator):
    query = torch.randn(1, 2, 6, 4, generator=generator)
    key = torch.randn(1, 2, 5, 4, generator=generator, requires_grad=True)
    spatial_map(cross_attention_map(query, key), (1, 2)).square().sum().backward()
    assert key.grad is not None and key.grad.isfinite().all() and key.grad.abs().sum() > 0


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, -5.0, 1e-30])
def test_a_constant_map_becomes_zeros_with_a_finite_gradient(value):
    constant = torch.full((2, 9), value, requires_grad=True)
    scaled = min_max(constant)
    scaled.sum().backward()
    assert torch.equal(scaled, torch.zeros(2, 9))
    assert constant.grad is not None and constant.grad.isfinite().all()


def test_rounding_noise_is_constant_but_a_faint_map_is_not():
    noise = torch.tensor([[0.3, 0.3 + 3e-8, 0.3]])
    faint = torch.tensor([[1e-12, 3e-12, 2e-12]])
    assert torch.equal(min_max(noise), torch.zeros(1, 3))
    assert torch.allclose(min_max(faint), torch.tensor([[0.0, 1.0, 0.5]]))


def test_nan_is_not_hidden_as_zeros():
    assert min_max(torch.tensor([[0.0, float("nan"), 1.0]])).isnan().any()


def test_an_empty_prompt_gets_a_map_of_zeros(generator):
    assert torch.equal(spatial_map(torch.rand(2, 9, 5, generator=generator), (3, 0)), torch.zeros(2, 9))


@pytest.mark.parametrize("span", [(-1, 2), (0, -1), (4, 2), (9, 0)])
def test_a_span_outside_of_the_tokens_is_refused(span):
    with pytest.raises(InputError, match="over 5 tokens"):
        spatial_map(torch.rand(1, 9, 5), span)


@pytest.mark.parametrize("spans", [[], [[(0, 1)]], [[(0, 1)], []], [[], []], [[(0, 1)], [(0, 1), (1, 1)]]])
def test_spans_that_do_not_fit_the_stacks_are_refused(spans):
    with pytest.raises(InputError, match="for 2 stacks"):
        spatial_maps(torch.rand(2, 9, 5), spans)


def test_smoothing_by_zero_returns_the_maps_themselves(generator):
    maps = torch.rand(2, 5, 7, generator=generator)
    assert smooth_map(maps, 0) is maps


def test_smoothing_spreads_a_peak_symmetrically_and_keeps_its_sum():
    peak = torch.zeros(1, 9, 13)
    peak[0, 4, 6] = 1
    smooth = smooth_map(peak, 1.0)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(smooth, smooth.flip(-1), atol=1e-7) and torch.allclose(smooth, smooth.flip(-2), atol=1e-7)
    assert smooth[0, 4, 6] == smooth.max() and smooth[0, 4, 5] > smooth[0, 4, 4] > 0


def test_smoothing_keeps_a_constant_map_and_the_range(generator):
    assert torch.allclose(smooth_map(torch.full((1, 3, 4), 0.7), 2.5), torch.tensor(0.7))
    smooth = smooth_map(torch.rand(2, 3, 5, 7, generator=generator), 0.8)
    assert smooth.shape == (2, 3, 5, 7) and smooth.min() >= 0 and smooth.max() <= 1


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_smoothing_refuses_an_impossible_sigma(sigma):
    with pytest.raises(InputError, match="sigma"):
        smooth_map(torch.rand(1, 3, 3), sigma)
