import math

import pytest
import torch

from dreamlayer_core.errors import InputError
from dreamlayer_core.harmonization import fuse_latents, resize_alpha


def _layers(foregrounds: int, *lead: int, height: int = 3, width: int = 5):
    generator = torch.Generator().manual_seed(foregrounds)
    return (
        torch.randn(*lead, 4, height, width, generator=generator),
        torch.randn(*lead, foregrounds, 4, height, width, generator=generator),
        torch.rand(*lead, foregrounds, 1, height, width, generator=generator),
    )


@pytest.mark.parametrize("foregrounds", range(1, 9))
def test_fuse_latents_is_the_sum_of_equation_12(foregrounds):
    background, latents, alphas = _layers(foregrounds)
    expected = background * math.prod(1 - alpha for alpha in alphas)
    for i in range(foregrounds):
        expected = expected + latents[i] * alphas[i] * math.prod(1 - alphas[f] for f in range(i + 1, foregrounds))
    assert torch.allclose(fuse_latents(background, latents, alphas), expected, atol=1e-5)


@pytest.mark.parametrize("foregrounds", range(1, 9))
def test_fuse_latents_composes_from_the_top_down(foregrounds):
    background, latents, alphas = _layers(foregrounds)
    light, expected = torch.ones_like(alphas[0]), torch.zeros_like(background)
    for latent, alpha in zip(latents.flip(0), alphas.flip(0), strict=True):
        expected, light = expected + light * alpha * latent, light * (1 - alpha)
    assert torch.allclose(fuse_latents(background, latents, alphas), expected + light * background, atol=1e-5)


def test_order_is_bottom_to_top():
    background, latents, _ = _layers(2)
    opaque = torch.ones(2, 1, 3, 5)
    assert torch.equal(fuse_latents(background, latents, opaque), latents[1])
    assert torch.equal(fuse_latents(background, latents.flip(0), opaque), latents[0])


def test_clear_layers_leave_the_background_bit_for_bit():
    background, latents, alphas = _layers(3)
    assert torch.equal(fuse_latents(background, latents, torch.zeros_like(alphas)), background)


def test_a_clear_layer_is_no_layer():
    background, latents, alphas = _layers(3)
    alphas[1] = 0
    assert torch.equal(
        fuse_latents(background, latents, alphas), fuse_latents(background, latents[[0, 2]], alphas[[0, 2]])
    )


def test_stacks_of_a_batch_are_fused_one_by_one():
    background, latents, alphas = _layers(3, 2)
    fused = fuse_latents(background, latents, alphas)
    for stack in range(2):
        assert torch.equal(fused[stack], fuse_latents(background[stack], latents[stack], alphas[stack]))


def test_half_precision_latents_take_fp32_alphas():
    background, latents, alphas = _layers(2)
    fused = fuse_latents(background.half(), latents.half(), alphas)
    assert fused.dtype == torch.float16
    assert torch.allclose(fused.float(), fuse_latents(background, latents, alphas), atol=1e-2)


@pytest.mark.parametrize(("count", "size"), [(3, (3, 5)), (1, (3, 5)), (2, (5, 3)), (2, (24, 40))])
def test_alphas_that_do_not_fit_are_refused(count, size):
    background, latents, _ = _layers(2)
    with pytest.raises(InputError, match=r"one per foreground.*\(2, 1, 3, 5\)"):
        fuse_latents(background, latents, torch.zeros(count, 1, *size))


def test_foregrounds_of_another_size_are_refused():
    background, latents, alphas = _layers(2)
    with pytest.raises(InputError, match="for a background"):
        fuse_latents(background[..., :4], latents, alphas)


def test_resize_alpha_keeps_range_and_mean():
    alphas = (torch.rand(2, 3, 1, 24, 40, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    resized = resize_alpha(alphas, (3, 5))
    assert resized.shape == (2, 3, 1, 3, 5) and resized.min() >= 0 and resized.max() <= 1
    assert resized.mean().item() == pytest.approx(alphas.mean().item(), abs=0.03)
    assert resize_alpha(alphas, (24, 40)) is alphas
