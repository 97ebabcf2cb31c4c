"""The vocabulary: what a layer and a stack accept, and where a layer lies on its canvas."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from dreamlayer_core.errors import DreamLayerError, InputError
from dreamlayer_core.layers import BLEND_MODES, Layer, LayerStack

torch.set_num_threads(1)


def make_layer(height: int = 4, width: int = 6, *, name: str = "thing", x: int = 0, y: int = 0, seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    color = torch.rand(3, height, width, generator=generator) * 0.5 + 0.25
    alpha = torch.rand(1, height, width, generator=generator) * 0.8 + 0.1
    return Layer(name=name, color=color, alpha=alpha, x=x, y=y)


@pytest.mark.parametrize(
    ("color", "alpha", "said"),
    [
        (torch.zeros(4, 5, 5), torch.zeros(1, 5, 5), "(4, 5, 5)"),
        (torch.zeros(3, 5, 5), torch.zeros(5, 5), "(5, 5)"),
        (torch.zeros(3, 5, 5), torch.zeros(1, 5, 6), "(1, 5, 6)"),
        (torch.zeros(3, 0, 5), torch.zeros(1, 0, 5), "(3, 0, 5)"),
        (torch.zeros(3, 5, 5, dtype=torch.uint8), torch.zeros(1, 5, 5), "uint8"),
        (torch.full((3, 5, 5), torch.nan), torch.zeros(1, 5, 5), "colour with NaN"),
        (torch.zeros(3, 5, 5), torch.full((1, 5, 5), torch.inf), "alpha with NaN or infinite"),
    ],
)
def test_unusable_pixels_are_refused_with_what_was_given(color: torch.Tensor, alpha: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Layer(name="pot", color=color, alpha=alpha)
    assert said in str(caught.value) and "'pot'" in str(caught.value)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan"), float("inf")])
def test_opacity_outside_its_range_is_refused(opacity: float) -> None:
    with pytest.raises(InputError, match="opacity"):
        LayerStack(width=6, height=4, layers=(make_layer(),)).with_layer(0, opacity=opacity)


def test_unknown_blend_mode_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        LayerStack(width=6, height=4, layers=(make_layer(),)).with_layer(0, blend_mode="dissolve")
    assert all(mode in str(caught.value) for mode in BLEND_MODES)


@pytest.mark.parametrize("field", ["name", "prompt"])
def test_text_that_cannot_be_written_as_utf8_is_refused_at_once(field: str) -> None:
    pixels = {"color": torch.zeros(3, 2, 2), "alpha": torch.zeros(1, 2, 2)}
    with pytest.raises(InputError, match="not valid Unicode"):
        Layer(**{"name": "pot", **pixels, field: "bad \udcff byte"})  # type: ignore[arg-type]


def test_errors_are_values_errors_too() -> None:
    assert issubclass(InputError, ValueError) and issubclass(InputError, DreamLayerError)


def test_layers_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        make_layer().name = "other"  # type: ignore[misc]


def test_rgba_is_colour_and_alpha() -> None:
    layer = make_layer()
    assert torch.equal(layer.rgba[:3], layer.color) and torch.equal(layer.rgba[3:], layer.alpha)


def test_box_is_tight_and_on_the_canvas() -> None:
    alpha = torch.zeros(1, 9, 12)
    alpha[0, 2:5, 3:10] = 0.7
    layer = Layer(name="a", color=torch.zeros(3, 9, 12), alpha=alpha, x=100, y=-1)
    assert layer.box == (103, 1, 110, 4)


def test_box_sees_what_eight_bits_can_show() -> None:
    alpha = torch.zeros(1, 5, 5)
    alpha[0, 0, 0] = 0.49 / 255
    assert Layer(name="a", color=torch.zeros(3, 5, 5), alpha=alpha).box is None
    alpha[0, 4, 4] = 1 / 255
    assert Layer(name="a", color=torch.zeros(3, 5, 5), alpha=alpha).box == (4, 4, 5, 5)


def test_a_layer_that_fills_the_canvas_is_returned_as_it_is() -> None:
    layer = make_layer()
    assert layer.on_canvas(6, 4) is layer


@pytest.mark.parametrize(("x", "y"), [(2, 3), (-2, 1), (7, -3), (0, 0), (-50, 0), (3, 90), (9, 7)])
def test_on_canvas_moves_every_pixel_to_its_place(x: int, y: int) -> None:
    layer, (width, height) = make_layer(x=x, y=y), (10, 8)
    placed = layer.on_canvas(width, height)
    assert (placed.x, placed.y, placed.width, placed.height, placed.name) == (0, 0, width, height, layer.name)
    for row in range(height):
        for column in range(width):
            inside = 0 <= row - y < 4 and 0 <= column - x < 6
            wanted = layer.rgba[:, row - y, column - x] if inside else None
            assert placed.alpha[0, row, column] == (0 if wanted is None else wanted[3])
            assert wanted is None or torch.equal(placed.color[:, row, column], wanted[:3])


def test_colour_around_a_placed_layer_is_its_own() -> None:
    layer = make_layer(x=4, y=2)
    placed = layer.on_canvas(30, 20)
    for channel in range(3):
        low, high = layer.color[channel].min(), layer.color[channel].max()
        assert low <= placed.color[channel].min() and placed.color[channel].max() <= high


def test_a_stack_needs_layers_and_area() -> None:
    with pytest.raises(InputError, match="0 layers"):
        LayerStack(width=4, height=4, layers=())
    with pytest.raises(InputError, match="0x4"):
        LayerStack(width=0, height=4, layers=(make_layer(),))


def test_background_is_the_lowest_layer() -> None:
    layers = tuple(make_layer(name=name) for name in "abc")
    stack = LayerStack(width=6, height=4, layers=layers)
    assert stack.background is layers[0] and stack.foregrounds == layers[1:]


def test_with_layer_changes_one_layer_and_nothing_else() -> None:
    layers = tuple(make_layer(name=name) for name in "abc")
    stack = LayerStack(width=6, height=4, layers=layers, global_prompt="all")
    changed = stack.with_layer(1, x=5, prompt="a cup", visible=False)
    assert (changed.layers[1].x, changed.layers[1].prompt, changed.layers[1].visible) == (5, "a cup", False)
    assert changed.layers[1].color is layers[1].color and changed.global_prompt == "all"
    assert changed.layers[0] is layers[0] and changed.layers[2] is layers[2]
    assert stack.layers[1] is layers[1]


@pytest.mark.parametrize("index", [-1, 3])
def test_with_layer_refuses_a_layer_that_is_not_there(index: int) -> None:
    stack = LayerStack(width=6, height=4, layers=tuple(make_layer(name=name) for name in "abc"))
    with pytest.raises(InputError, match="give 0 to 2"):
        stack.with_layer(index, x=1)
