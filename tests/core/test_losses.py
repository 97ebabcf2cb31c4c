import pytest
import torch

from dreamlayer_core.errors import InputError
from dreamlayer_core.losses import LossWeights, context_loss, layout_loss, noise_loss, total_loss


def _rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_noise_loss_is_the_mean_squared_error_in_fp32():
    prediction, target = _rand(2, 4, 3, 5), _rand(2, 4, 3, 5, seed=1)
    assert torch.allclose(noise_loss(prediction, target), torch.nn.functional.mse_loss(prediction, target))
    assert noise_loss(prediction.bfloat16(), target).dtype == torch.float32
    assert noise_loss(target, target) == 0


def test_context_loss_is_equation_6_squared_and_averaged():
    maps, alphas = _rand(2, 3, 4, 6), _rand(2, 3, 1, 4, 6, seed=1)
    norms = [(alphas[s, f, 0] - maps[s, f]).norm() for s in range(2) for f in range(3)]
    expected = sum(norm**2 for norm in norms) / len(norms) / (4 * 6)
    assert torch.allclose(context_loss(maps, alphas), expected)


@pytest.mark.parametrize("size", [(32, 48), (8, 12), (2, 3), (7, 13)])
def test_context_loss_resizes_alphas_to_the_maps(size):
    assert context_loss(torch.full((1, 2, 4, 6), 0.25), torch.full((1, 2, 1, *size), 0.75)).item() == pytest.approx(
        0.25
    )


def test_context_loss_is_small_for_the_resized_alpha_only():
    alphas = torch.zeros(1, 1, 1, 16, 16)
    alphas[..., :8] = 1
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., :2] = 1
    assert context_loss(maps, alphas) < 0.01 < 0.8 < context_loss(1 - maps, alphas)


def test_context_loss_reaches_the_maps():
    maps = _rand(1, 2, 4, 6).requires_grad_()
    context_loss(maps, _rand(1, 2, 1, 16, 24, seed=1)).backward()
    assert maps.grad is not None and maps.grad.abs().sum() > 0


def test_layout_loss_teaches_only_the_foreground_side():
    teacher, learner = _rand(2, 3, 16).requires_grad_(), _rand(2, 3, 16, seed=1).requires_grad_()
    layout_loss(teacher, learner).backward()
    assert teacher.grad is None
    assert learner.grad is not None
    assert torch.allclose(learner.grad, 2 * (learner - teacher).detach() / learner.numel())


def test_total_loss_weighs_each_part():
    parts = [torch.tensor(float(x)) for x in (1, 10, 100)]
    assert total_loss(*parts) == 111
    assert total_loss(*parts, weights=LossWeights(noise=2, context=0.5, layout=0)) == 7


def test_shapes_are_not_broadcast():
    with pytest.raises(InputError, match="one shape"):
        noise_loss(torch.zeros(2, 4, 3, 5), torch.zeros(1, 4, 3, 5))
    with pytest.raises(InputError, match="one shape"):
        layout_loss(torch.zeros(2, 3, 16), torch.zeros(2, 1, 16))
    with pytest.raises(InputError, match="one shape"):
        context_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 1, 8, 8))
