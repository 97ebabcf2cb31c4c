"""Edits of a stack as a document: the exact pixels, the order, and the light that goes along."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamlayer_core.composite import flatten
from dreamlayer_core.edited_pixels import edit_pixels, own_center
from dreamlayer_core.editing import LayerChange
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.effects import find_effects, is_effect, move_effects, with_effects
from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.residual import is_residual, with_residual
from dreamlayer_core.stack_edits import change_layer

torch.set_num_threads(1)

SIDE = 48


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stack() -> LayerStack:
    """A textured ground and two objects apart."""
    ground = Layer(name="ground", color=random(3, SIDE, SIDE) * 0.5 + 0.4, alpha=torch.ones(1, SIDE, SIDE))
    objects = [Layer(name=name, color=random(3, 9, 7, seed=i), alpha=torch.ones(1, 9, 7), x=8 + 20 * i, y=10)
               for i, name in enumerate(("cup", "ball"))]
    return LayerStack(width=SIDE, height=SIDE, layers=(ground, *objects), global_prompt="a cup and a ball")


def lit(plain: LayerStack) -> tuple[LayerStack, Tensor]:
    """The stack with effects, and its picture with a shadow right below each object."""
    picture = flatten(plain)
    for layer in plain.foregrounds:
        picture[:, layer.y + 9 : layer.y + 14, layer.x : layer.x + 7] *= 0.5
    return with_effects(plain, find_effects(plain, picture)), picture


EDITS = [LayerEdit(dx=5, dy=-3), LayerEdit(scale_x=1.7, scale_y=0.6), LayerEdit(degrees=30), LayerEdit(flip_horizontal=True),
         LayerEdit(dx=30, degrees=90, flip_vertical=True)]


@pytest.mark.parametrize("op", EDITS)
def test_the_pixels_are_those_of_op_and_no_others_change(op: LayerEdit) -> None:
    before = stack()
    after = change_layer(before, LayerChange(layer=1, op=op, opacity=0.5))
    wanted = edit_pixels(before.layers[1], op)
    assert torch.equal(after.layers[1].rgba, wanted.rgba) and (after.layers[1].x, after.layers[1].y) == (wanted.x, wanted.y)
    assert after.layers[1].opacity == 0.5 and after.global_prompt == before.global_prompt
    assert after.layers[0] is before.layers[0] and after.layers[2] is before.layers[2]


def test_what_leaves_the_canvas_comes_back() -> None:
    before = stack()
    away = change_layer(before, LayerChange(layer=1, op=LayerEdit(dx=-12)))
    back = change_layer(away, LayerChange(layer=1, op=LayerEdit(dx=12)))
    assert away.layers[1].x < 0 and torch.equal(flatten(back), flatten(before))


def test_nothing_is_nothing() -> None:
    for before in (stack(), lit(stack())[0], with_residual(*lit(stack()))):
        assert change_layer(before, LayerChange(layer=2, opacity=1.0, visible=True, position=2)) is before


@pytest.mark.parametrize(("layer", "position", "names"), [
    (1, 2, ["ground", "ball", "cup"]), (2, 1, ["ground", "ball", "cup"]), (1, 1, ["ground", "cup", "ball"]),
])
def test_layers_change_places(layer: int, position: int, names: list[str]) -> None:
    after = change_layer(stack(), LayerChange(layer=layer, position=position, opacity=0.9))
    assert [one.name for one in after.layers] == names


def test_layers_are_hidden_shown_and_deleted() -> None:
    hidden = change_layer(stack(), LayerChange(layer=1, visible=False))
    deleted = change_layer(stack(), LayerChange(layer=1, delete=True))
    assert [one.name for one in deleted.layers] == ["ground", "ball"]
    assert torch.equal(flatten(hidden), flatten(deleted))
    assert torch.equal(flatten(change_layer(hidden, LayerChange(layer=1, visible=True))), flatten(stack()))


@pytest.mark.parametrize("op", [LayerEdit(dx=11, dy=-6), LayerEdit(degrees=20), LayerEdit(scale_x=0.5, scale_y=0.5)])
def test_a_background_goes_on_covering_the_canvas(op: LayerEdit) -> None:
    after = change_layer(stack(), LayerChange(layer=0, op=op))
    assert bool((after.background.on_canvas(SIDE, SIDE).alpha >= 1 - 0.5 / 255).all())
    cut_out = replace(stack(), layers=stack().layers[1:])
    assert torch.equal(change_layer(cut_out, LayerChange(layer=0, op=op)).background.rgba, edit_pixels(cut_out.background, op).rgba)


def test_a_shadow_goes_with_its_object() -> None:
    before, _ = lit(stack())
    op = LayerEdit(dy=20)
    after = change_layer(before, LayerChange(layer=1, op=op))
    plain = stack()
    wanted = move_effects(
        find_effects(plain, lit(plain)[1]), plain, {1: replace(op, center=own_center(plain.layers[1]))})
    moved = with_effects(change_layer(plain, LayerChange(layer=1, op=op)), wanted)
    assert [one.name for one in after.layers] == [one.name for one in moved.layers]
    torch.testing.assert_close(flatten(after), flatten(moved), atol=1.1 / 255, rtol=0)
    picture, ground = flatten(after), plain.background.color
    assert float((picture - ground)[:, 40:43, 9:14].mean()) < -0.2, "no shadow at the new place"
    assert float((picture - ground)[:, 20:23, 9:14].abs().mean()) < 0.02, "a shadow stayed behind"
    assert float((picture - ground)[:, 20:23, 29:34].mean()) < -0.2, "the other's shadow is gone"


def test_a_shadow_stays_if_it_is_told_to_and_goes_with_what_is_hidden() -> None:
    before, ground = lit(stack())[0], stack().background.color
    stayed = flatten(change_layer(before, LayerChange(layer=1, op=LayerEdit(dy=20)), light_follows=False))
    assert float((stayed - ground)[:, 20:23, 9:14].mean()) < -0.2
    for change in (LayerChange(layer=1, visible=False), LayerChange(layer=1, delete=True)):
        assert float((flatten(change_layer(before, change)) - ground)[:, 20:23, 9:14].abs().mean()) < 0.02


def test_layers_count_without_effects_and_a_residual_is_taken_off() -> None:
    whole = with_residual(*lit(stack()))
    after = change_layer(whole, LayerChange(layer=2, op=LayerEdit(dx=3)))
    assert not any(map(is_residual, after.layers)) and any(map(is_effect, after.layers))
    assert [(one.name, one.x) for one in after.layers if not is_effect(one)] == [("ground", 0), ("cup", 8), ("ball", 31)]


def test_an_empty_effects_layer_is_kept_for_a_batch() -> None:
    kept = change_layer(lit(stack())[0], LayerChange(layer=1, opacity=0.5), keep_empty=True)
    assert sum(map(is_effect, kept.layers)) == 4


@pytest.mark.parametrize(("change", "said"), [
    (LayerChange(layer=3), "got layer 3 of a stack of 3; give 0 .* to 2"),
    (LayerChange(layer=3), "effects and residual layers that were taken off do not count"),
    (LayerChange(layer=-1), "got layer -1"),
    (LayerChange(layer=1, position=3), "got position 3 for layer 1; give 1 to 2"),
    (LayerChange(layer=1, position=0), "got position 0"),
    (LayerChange(layer=0, delete=True), "background can be neither"),
    (LayerChange(layer=0, visible=False), "background can be neither"),
    (LayerChange(layer=0, position=1), "background can be neither"),
    (LayerChange(layer=1, op=LayerEdit(dx=300)), "would leave the canvas of 48x48; move it less far, or hide or delete it"),
    (LayerChange(layer=1, op=LayerEdit(scale_x=100, scale_y=100, dx=-9000)), "would (leave|be)"),
    (LayerChange(layer=1, opacity=1.5), "opacity 1.5; give 0 to 1"),
])
def test_what_cannot_be_is_told(change: LayerChange, said: str) -> None:
    with pytest.raises(InputError, match=said):
        change_layer(stack(), change)
