"""Eq. 1 against its own text, and colours at soft edges."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageChops
from torch import Tensor

from dreamlayer_core.composite import (
    blend,
    clean_layer,
    composite,
    composite_premultiplied,
    defringe,
    flatten,
    flatten_rgba,
    gray_fill,
    premultiply,
    unpremultiply,
)
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats.png import image_from_tensor, tensor_from_image
from dreamlayer_core.layers import Layer, LayerStack

torch.set_num_threads(1)


def random_layers(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Colours (*shape, 3, 5, 7) and alphas (*shape, 1, 5, 7); the lowest layer is opaque."""
    generator = torch.Generator().manual_seed(seed)
    colors, alphas = torch.rand(*shape, 3, 5, 7, generator=generator), torch.rand(*shape, 1, 5, 7, generator=generator)
    alphas[..., 0, :, :, :] = 1
    return colors, alphas


def disc(size: int = 33, radius: float = 9.3, softness: float = 3.0) -> Tensor:
    """Alpha (1, size, size) of a disc with a soft edge."""
    axis = torch.arange(size) - size // 2
    distance = (axis[:, None] ** 2 + axis[None] ** 2).float().sqrt()
    return ((radius - distance) / softness + 0.5).clamp(0, 1)[None]


def as_stack(colors: Tensor, alphas: Tensor) -> LayerStack:
    layers = tuple(Layer(name=str(i), color=c, alpha=a) for i, (c, a) in enumerate(zip(colors, alphas, strict=True)))
    return LayerStack(width=colors.shape[-1], height=colors.shape[-2], layers=layers)


def test_composite_is_the_sum_of_equation_1() -> None:
    colors, alphas = random_layers(4)
    wanted = torch.zeros(3, 5, 7, dtype=torch.float64)
    for i in range(4):
        term = alphas[i].double() * colors[i].double()
        for f in range(i + 1, 4):
            term = term * (1 - alphas[f].double())
        wanted += term
    torch.testing.assert_close(composite(colors, alphas), wanted.float())


def test_stacks_of_a_batch_do_not_mix() -> None:
    colors, alphas = random_layers(2, 3, 4)
    batch = composite(colors, alphas)
    assert batch.shape == (2, 3, 3, 5, 7)
    assert torch.equal(batch[1, 2], composite(colors[1, 2], alphas[1, 2]))


def test_premultiplied_layers_give_the_same_picture() -> None:
    colors, alphas = random_layers(3)
    assert torch.equal(composite_premultiplied(premultiply(colors, alphas), alphas), composite(colors, alphas))


def test_an_opaque_layer_hides_all_below_and_a_clear_one_nothing() -> None:
    colors, alphas = random_layers(3)
    alphas[2] = 1
    assert torch.equal(composite(colors, alphas), colors[2])
    alphas[2] = 0
    assert torch.equal(composite(colors, alphas), composite(colors[:2], alphas[:2]))


@pytest.mark.parametrize(
    ("color", "alpha"), [((2, 3, 5, 7), (3, 1, 5, 7)), ((3, 5, 7), (1, 5, 7)), ((2, 4, 5, 7),) * 2]
)
def test_layers_that_do_not_belong_together_are_refused(color: tuple[int, ...], alpha: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        composite(torch.zeros(color), torch.zeros(alpha))
    assert str(color) in str(caught.value) and str(alpha) in str(caught.value)


def test_unpremultiply_undoes_premultiply_and_is_black_where_nothing_is() -> None:
    colors, alphas = random_layers(3)
    alphas[1, 0, 2, 3] = 0
    straight = unpremultiply(premultiply(colors, alphas), alphas)
    covered = (alphas > 0).expand_as(colors)
    torch.testing.assert_close(straight[covered], colors[covered])
    assert torch.equal(straight[1, :, 2, 3], torch.zeros(3))


def test_gray_fill_is_a_composite_over_solid_gray() -> None:
    colors, alphas = random_layers(2)
    gray = torch.full_like(colors[0], 0.5)
    wanted = composite(torch.stack([gray, colors[1]]), torch.stack([torch.ones_like(alphas[0]), alphas[1]]))
    torch.testing.assert_close(gray_fill(colors[1], alphas[1]), wanted)


def test_flatten_of_plain_layers_is_composite_bit_for_bit() -> None:
    colors, alphas = random_layers(4)
    assert torch.equal(flatten(as_stack(colors, alphas)), composite(colors, alphas))


def test_flatten_leaves_out_hidden_layers() -> None:
    colors, alphas = random_layers(3)
    stack = as_stack(colors, alphas).with_layer(1, visible=False)
    assert torch.equal(flatten(stack), composite(colors[[0, 2]], alphas[[0, 2]]))


def test_flatten_multiplies_alpha_by_opacity() -> None:
    colors, alphas = random_layers(3)
    stack = as_stack(colors, alphas).with_layer(2, opacity=0.25)
    weaker = torch.stack([alphas[0], alphas[1], alphas[2] * 0.25])
    assert torch.equal(flatten(stack), composite(colors, weaker))


def test_flatten_puts_layers_in_their_place() -> None:
    colors, alphas = random_layers(2)
    stack = as_stack(colors, alphas).with_layer(1, color=colors[1, :, :2, :3], alpha=torch.ones(1, 2, 3), x=5, y=-1)
    picture = flatten(stack)
    assert torch.equal(picture[:, 0, 5:], colors[1, :, 1, :2])
    assert torch.equal(picture[:, 1:], colors[0, :, 1:]) and torch.equal(picture[:, :, :5], colors[0, :, :, :5])


def test_flatten_rgba_keeps_the_transparency_of_a_stack_without_background() -> None:
    colors, alphas = random_layers(2)
    rgba = flatten_rgba(as_stack(colors, alphas).with_layer(0, visible=False))
    torch.testing.assert_close(rgba[3:], alphas[1])
    torch.testing.assert_close(rgba[:3], colors[1])


@pytest.mark.parametrize(
    ("mode", "reference"),
    [
        ("multiply", ImageChops.multiply),
        ("screen", ImageChops.screen),
        ("overlay", ImageChops.overlay),
        ("darken", ImageChops.darker),
        ("lighten", ImageChops.lighter),
        ("hard-light", ImageChops.hard_light),
        ("difference", ImageChops.difference),
    ],
)
def test_blend_modes_agree_with_pillow(mode: str, reference: object) -> None:
    colors, _ = random_layers(2)
    pictures = [image_from_tensor(color) for color in colors]
    merged: Image.Image = reference(*pictures)  # type: ignore[operator]
    backdrop, source = (tensor_from_image(picture)[:3] for picture in pictures)
    difference = (blend(backdrop, source, mode) - tensor_from_image(merged)[:3]).abs().max()
    assert difference <= 2 / 255  # Pillow rounds on the way


def test_a_blend_mode_acts_only_where_there_is_a_backdrop() -> None:
    colors, alphas = random_layers(2)
    alphas[1] = 1
    stack = as_stack(colors, alphas).with_layer(1, blend_mode="multiply")
    torch.testing.assert_close(flatten(stack), colors[0] * colors[1])
    torch.testing.assert_close(flatten(stack.with_layer(0, visible=False)), colors[1])


def test_defringe_takes_the_gray_out_of_a_soft_edge() -> None:
    alpha, red = disc(), torch.tensor([0.9, 0.2, 0.1]).view(3, 1, 1).expand(3, 33, 33)
    painted = gray_fill(red, alpha)
    clean = defringe(painted, alpha)
    assert (painted - red).abs().max() > 0.3
    assert (clean - red).abs().max() < 0.01  # under alpha 0 too: whoever resizes the layer gets no fringe


def test_defringe_leaves_opaque_pixels_alone() -> None:
    alpha, color = disc(), torch.rand(3, 33, 33, generator=torch.Generator().manual_seed(1))
    solid = (alpha == 1).expand(3, -1, -1)
    for matte in (0.5, 0.0, None):
        assert torch.equal(defringe(color, alpha, matte=matte)[solid], color[solid])


def test_defringe_without_matte_lets_solid_colour_run_into_wrong_edges() -> None:
    alpha = disc(softness=2.0)
    color = torch.where(alpha == 1, 0.8, 0.5).expand(3, -1, -1)
    near = (alpha > 0) & (alpha < 0.4)
    assert (defringe(color, alpha, matte=None)[:, near[0]] - 0.8).abs().max() < 0.1


def test_defringe_keeps_the_texture_of_glass() -> None:
    texture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    alpha = torch.full((1, 16, 16), 0.4)
    torch.testing.assert_close(defringe(texture, alpha, matte=None), texture)
    torch.testing.assert_close(defringe(gray_fill(texture, alpha), alpha), texture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (5, 13), (16, 8)])
def test_defringe_takes_any_size_and_a_batch(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    color, alpha = torch.rand(2, 2, 3, *size, generator=generator), torch.rand(2, 2, 1, *size, generator=generator)
    alpha[0, 0] = 0  # an empty layer has no colour to spread
    clean = defringe(color, alpha)
    assert clean.shape == color.shape and bool(torch.isfinite(clean).all())
    assert clean.min() >= 0 and clean.max() <= 1
    torch.testing.assert_close(clean[1, 1], defringe(color[1, 1], alpha[1, 1]))


def test_clean_layer_takes_the_haze_away_and_keeps_the_object():
    color, alpha = torch.rand(3, 12, 12), torch.full((1, 12, 12), 2 / 255)
    alpha[:, 4:8, 3:9], alpha[:, 3, 3:9] = 1.0, 0.3
    cleaned, kept = clean_layer(color, alpha)
    assert torch.equal(kept[:, 3:8, 3:9], alpha[:, 3:8, 3:9])
    assert Layer(name="a", color=cleaned, alpha=kept).box == (3, 3, 9, 8)
    assert torch.equal(cleaned[:, 4:8, 3:9], color[:, 4:8, 3:9])
