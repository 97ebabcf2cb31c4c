"""Layers held to their picture: what the fit changes, and what it must leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamlayer_core.composite import composite, flatten
from dreamlayer_core.config import PictureFit
from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.picture_fit import confine_alphas, fit_colors, fit_stack, visible_shares


def _random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture
def stack() -> LayerStack:
    """A background and two foregrounds with soft alphas, their colours near gray, so that no fit is clamped."""
    layers = [Layer(name=f"layer {index}", color=0.4 + 0.2 * _random(3, 12, 10) + 0.01 * index,
                    alpha=torch.ones(1, 12, 10) if index == 0 else _random(1, 12, 10).roll(index))
              for index in range(3)]
    return LayerStack(width=10, height=12, layers=tuple(layers))


def _tensors(stack: LayerStack) -> tuple[Tensor, Tensor]:
    return torch.stack([layer.color for layer in stack.layers]), torch.stack([layer.alpha for layer in stack.layers])


def test_shares_are_the_factors_of_the_composite(stack: LayerStack) -> None:
    colors, alphas = _tensors(stack)
    torch.testing.assert_close((visible_shares(alphas) * colors).sum(0), composite(colors, alphas))


def test_the_composite_becomes_the_picture_by_the_least_change(stack: LayerStack) -> None:
    """Against the pseudo-inverse, pixel by pixel."""
    colors, alphas = _tensors(stack)
    picture = 0.4 + 0.2 * _random(3, 12, 10)
    fitted = fit_colors(picture, colors, alphas)
    torch.testing.assert_close(composite(fitted, alphas), picture)
    shares = visible_shares(alphas)[:, 0]
    missed = picture - composite(colors, alphas)
    for y, x in ((0, 0), (5, 7), (11, 9)):
        least = torch.linalg.pinv(shares[:, y, x][None]) @ missed[:, y, x][None]  # (k, 3)
        torch.testing.assert_close((fitted - colors)[:, :, y, x], least)


def test_what_is_hidden_keeps_its_colour(stack: LayerStack) -> None:
    colors, alphas = _tensors(stack)
    alphas[2] = 0
    alphas[2, :, :6] = 1
    fitted = fit_colors(_random(3, 12, 10), colors, alphas)
    assert torch.equal(fitted[:2, :, :6], colors[:2, :, :6])
    assert not torch.equal(fitted[2, :, :6], colors[2, :, :6])


def test_fixed_layers_take_their_part_of_the_difference_with_them(stack: LayerStack) -> None:
    colors, alphas = _tensors(stack)
    picture = _random(3, 12, 10)
    free, held = fit_colors(picture, colors, alphas), fit_colors(picture, colors, alphas, fixed=1)
    assert torch.equal(held[0], colors[0])
    assert torch.equal(held[1:], free[1:])


def test_alphas_are_cut_to_their_maps_and_a_margin() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, 2:4, 2:4] = 0.9
    maps[1] = 0.4  # claims nothing
    alphas = torch.full((2, 1, 8, 8), 0.7)
    confined = confine_alphas(alphas, maps, 1)
    expected = torch.zeros(8, 8)
    expected[1:5, 1:5] = 0.7
    assert torch.equal(confined[0, 0], expected)
    assert torch.equal(confined[1], alphas[1])
    assert torch.equal(confine_alphas(alphas, maps, 0)[0, 0] > 0, maps[0] > 0.5)
    with pytest.raises(InputError, match=r"got maps \(2, 4, 8\) for alphas"):
        confine_alphas(alphas, maps[:, :4], 1)


def test_a_stack_is_fitted_as_it_is_seen(stack: LayerStack) -> None:
    """Opacity counts, hidden layers do not; placed layers come out on the whole canvas."""
    placed = replace(stack.layers[1], color=stack.layers[1].color[:, :6, :5], alpha=stack.layers[1].alpha[:, :6, :5], x=3, y=2)
    seen = replace(stack, layers=(stack.layers[0], replace(placed, opacity=0.5), replace(stack.layers[2], visible=False)))
    picture = 0.4 + 0.2 * _random(3, 12, 10)
    fitted = fit_stack(seen, picture)
    torch.testing.assert_close(flatten(fitted), picture)
    assert torch.equal(fitted.layers[2].color, seen.layers[2].color) and not fitted.layers[2].visible
    assert (fitted.layers[1].x, fitted.layers[1].width, fitted.layers[1].opacity) == (0, 10, 0.5)
    only_alphas = fit_stack(seen, picture, torch.zeros(2, 12, 10), fit=PictureFit(colors="none"))
    assert torch.equal(flatten(only_alphas), flatten(seen))


def test_what_cannot_be_fitted_is_told(stack: LayerStack) -> None:
    with pytest.raises(InputError, match=r"got a picture of shape \(3, 4, 4\); give \(3, 12, 10\)"):
        fit_stack(stack, torch.zeros(3, 4, 4))
    light = replace(stack, layers=(*stack.layers[:2], replace(stack.layers[2], blend_mode="multiply")))
    with pytest.raises(InputError, match="'layer 2' has blend mode multiply"):
        fit_stack(light, torch.zeros(3, 12, 10))
    with pytest.raises(InputError, match="got colors 'some' of a fit; give all, foregrounds, none"):
        PictureFit(colors="some")  # pyright: ignore[reportArgumentType]
