"""Layers that are scaled, flipped and turned."""

from __future__ import annotations

import math

import pytest
import torch

from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import Layer
from dreamlayer_core.placement import cut_out, placed_bounds, resize_alpha, transform_layer


def random_layer(width: int = 6, height: int = 4, **fields: int) -> Layer:
    rgba = torch.rand(4, height, width, generator=torch.Generator().manual_seed(0))
    return Layer(name="cup", color=rgba[:3], alpha=rgba[3:], **fields)


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (0.0, (3, 5, 13, 9)),
        (math.pi, (3, 5, 13, 9)),
        (math.pi / 2, (6, 2, 10, 12)),
        (math.pi / 4, (3, 2, 13, 12)),  # 10 and 4 along the diagonals: 9.9 a side
    ],
)
def test_bounds_of_a_turned_rectangle(rotation: float, expected: tuple[int, int, int, int]) -> None:
    found = placed_bounds(3, 5, 10, 4, rotation)
    # Right angles are not exact in floats: one pixel of nothing more is allowed, none less.
    assert all(f in (e, e - 1) for f, e in zip(found[:2], expected[:2], strict=True))
    assert all(f in (e, e + 1) for f, e in zip(found[2:], expected[2:], strict=True))


def test_nothing_to_do_changes_nothing() -> None:
    layer = random_layer(x=2, y=-1)
    assert transform_layer(layer) is layer
    assert transform_layer(layer, size=(6, 4)) is layer


def test_flips_move_pixels_and_not_the_layer() -> None:
    layer = random_layer(x=2, y=-1)
    both = transform_layer(layer, flip_horizontal=True, flip_vertical=True)
    assert torch.equal(both.rgba, layer.rgba.flip(-1, -2)) and (both.x, both.y) == (2, -1)
    assert torch.equal(transform_layer(layer, flip_vertical=True).rgba, layer.rgba.flip(-2))
    assert torch.equal(transform_layer(layer, flip_horizontal=True).rgba, layer.rgba.flip(-1))


def test_a_turn_is_clockwise_and_keeps_the_centre() -> None:
    layer = random_layer(x=10, y=20)
    turned = transform_layer(layer, rotation=math.pi / 2).on_canvas(40, 40)
    middle = cut_out(turned, (11, 19, 15, 25))  # 6x4 about the centre (13, 22)
    torch.testing.assert_close(middle.alpha, layer.alpha.rot90(-1, (-2, -1)))
    torch.testing.assert_close(middle.color, layer.color.rot90(-1, (-2, -1)))


@pytest.mark.parametrize("size", [(1, 1), (13, 3), (3, 9), (60, 40)])
@pytest.mark.parametrize("rotation", [0.0, 0.3])
def test_colours_under_alpha_0_do_not_bleed(size: tuple[int, int], rotation: float) -> None:
    alpha = torch.zeros(1, 8, 8)
    alpha[:, 2:6, 2:6] = 1
    color = torch.where(alpha > 0, torch.tensor([0.9, 0.1, 0.2])[:, None, None], torch.tensor(1.0))
    found = transform_layer(Layer(name="cup", color=color, alpha=alpha), size=size, rotation=rotation)
    shown = found.alpha[0] > 0.1
    expected = torch.tensor([0.9, 0.1, 0.2])[:, None].expand(-1, int(shown.sum()))
    torch.testing.assert_close(found.color[:, shown], expected, atol=1e-4, rtol=0)
    assert 0 <= float(found.rgba.min()) and float(found.rgba.max()) <= 1
    if rotation == 0:
        assert (found.width, found.height) == size


def test_a_part_may_reach_beyond_the_layer() -> None:
    layer = random_layer(x=3, y=1)
    part = cut_out(layer, (5, 0, 12, 3))
    assert (part.x, part.y, part.width, part.height) == (5, 0, 7, 3)
    assert torch.equal(part.alpha[:, 1:, :4], layer.alpha[:, :2, 2:])
    assert not part.alpha[:, 0].any() and not part.alpha[:, :, 4:].any()


def test_alphas_are_scaled_only_where_they_must() -> None:
    alpha = torch.rand(2, 4, 6)
    assert resize_alpha(alpha, 6, 4) is alpha
    assert resize_alpha(alpha, 12, 3).shape == (2, 3, 12)
    torch.testing.assert_close(resize_alpha(torch.ones(1, 2, 2), 5, 7), torch.ones(1, 7, 5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (0, 4)}, "0x4"),
        ({"size": (5, 16385)}, "5x16385"),
        ({"rotation": math.nan}, "rotation nan"),
        ({"rotation": math.inf}, "rotation inf"),
    ],
)
def test_what_cannot_be_placed_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        transform_layer(random_layer(), **options)
