import pytest
import torch
from torch import nn

from dreamlayer_core.attention.context_layers import ContextAwareLayers
from dreamlayer_core.errors import InputError
from dreamlayer_core.losses import context_loss


def _maps_and_features(stacks: int = 2, foregrounds: int = 3, cells: int = 12, channels: int = 16):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(stacks, foregrounds, cells, generator=generator)
    maps[..., 0], maps[..., 1] = 0, 1  # what MinMax leaves in every map
    return maps, torch.randn(stacks, cells, channels, generator=generator)


def _awake(num_layers: int = 2) -> ContextAwareLayers:
    """Layers whose last projection is no longer zero, so that they do something."""
    with torch.random.fork_rng():  # modules draw their weights from the global generator
        torch.manual_seed(1)
        layers = ContextAwareLayers(num_layers, 16, hidden=8, heads=2)
        for layer in layers.layers:
            nn.init.normal_(layer.output.weight)
    return layers.requires_grad_(False)


def test_no_layers_return_the_maps_themselves():
    maps, features = _maps_and_features()
    layers = ContextAwareLayers(0, 16)
    assert layers(maps, features) is maps
    assert not list(layers.parameters())


def test_untrained_layers_are_the_identity():
    maps, features = _maps_and_features()
    refined = ContextAwareLayers(2, 16, hidden=8, heads=2)(maps, features)
    assert (refined - maps).abs().max() <= 1e-4


def test_refined_maps_differ_and_stay_in_range():
    maps, features = _maps_and_features()
    refined = _awake()(maps, features)
    assert refined.shape == maps.shape and refined.min() >= 0 and refined.max() <= 1
    assert (refined - maps).abs().max() > 0.05


def test_permuting_foregrounds_permutes_refined_maps():
    maps, features = _maps_and_features()
    layers, order = _awake(), [2, 0, 1]
    assert torch.allclose(layers(maps[:, order], features), layers(maps, features)[:, order], atol=1e-6)


def test_stacks_and_foregrounds_do_not_mix():
    maps, features = _maps_and_features()
    layers = _awake()
    refined = layers(maps, features)
    assert torch.allclose(layers(maps[1:], features[1:])[0], refined[1], atol=1e-6)
    assert torch.allclose(layers(maps[:, 1:2], features)[:, 0], refined[:, 1], atol=1e-6)


def test_every_cell_sees_every_other_and_the_features():
    maps, features = _maps_and_features(stacks=1, foregrounds=1)
    layers = _awake(1)
    refined = layers(maps, features)
    features[0, -1] += torch.randn(16, generator=torch.Generator().manual_seed(3))
    assert ((layers(maps, features) - refined).abs()[0, 0] > 0).float().mean() > 0.8


def test_layers_learn_to_find_an_alpha_that_features_show():
    generator = torch.Generator().manual_seed(0)
    layers = _awake(1).requires_grad_()
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-2)
    alphas = (torch.rand(4, 1, 1, 4, 4, generator=generator) > 0.5).float()
    maps = 0.5 + 0.1 * torch.rand(4, 1, 16, generator=generator)
    features = torch.randn(4, 16, 16, generator=generator)
    features[..., 0] += 4 * alphas.reshape(4, 16)
    losses = []
    for _ in range(60):
        losses.append(context_loss(layers(maps, features).reshape(4, 1, 4, 4), alphas))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_gradient_reaches_the_raw_maps_and_the_features_path():
    maps, features = _maps_and_features()
    maps.requires_grad_()
    layers = ContextAwareLayers(2, 16, hidden=8, heads=2)
    layers(maps, features).square().sum().backward()
    assert maps.grad is not None and maps.grad.isfinite().all() and maps.grad.abs().sum() > 0
    assert all(layer.output.weight.grad.abs().sum() > 0 for layer in layers.layers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_layers_give_fp32_maps(dtype):
    maps, features = _maps_and_features()
    refined = _awake().to(dtype)(maps, features.to(dtype))
    assert refined.dtype == torch.float32
    assert (refined - _awake()(maps, features)).abs().max() < 0.1


def test_impossible_sizes_are_refused():
    with pytest.raises(InputError, match="heads"):
        ContextAwareLayers(1, 16, hidden=8, heads=3)
    with pytest.raises(InputError, match="-1 context-aware layers"):
        ContextAwareLayers(-1, 16)
