"""Effects and residual layers: they flatten to what they were made from, are read back, and go with their objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from psd_tools import PSDImage
from psd_tools.constants import BlendMode
from torch import Tensor

from dreamlayer_core.attribution import object_shares, path_lengths
from dreamlayer_core.composite import flatten
from dreamlayer_core.edited_pixels import own_center
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.effects import (
    EFFECT_LAYERS,
    Effects,
    find_effects,
    light_left,
    move_effects,
    uncover,
    with_effects,
    without_effects,
)
from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.metrics import composite_psnr
from dreamlayer_core.evaluation.pictures import true_pictures
from dreamlayer_core.evaluation.shadows import shadow_error
from dreamlayer_core.filling import fill_smoothly
from dreamlayer_core.formats import load_stack, save_stack
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.residual import RESIDUAL_LAYER, eight_bit, with_residual, without_residual
from dreamlayer_core.scenes import Scene, make_scene

torch.set_num_threads(1)

SOURCES = ("", "stack.ora", "stack.psd")
FIELDS = tuple(EFFECT_LAYERS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stack_of(scene: Scene) -> tuple[LayerStack, Tensor]:
    """A true scene's layers, and its picture with shadows and reflections."""
    truth = true_pictures(scene)[0]
    assert truth.background is not None and truth.colors is not None and truth.alphas is not None
    height, width = truth.whole.shape[-2:]
    ground = Layer(name="background", color=truth.background, alpha=torch.ones(1, height, width))
    objects = [Layer(name=item.caption, color=color, alpha=alpha[None])
               for item, color, alpha in zip(scene.objects, truth.colors, truth.alphas, strict=True)]
    return LayerStack(width=width, height=height, layers=(ground, *objects)), truth.whole


def random_stack(layers: int = 3, width: int = 19, height: int = 13) -> LayerStack:
    """Soft random alphas everywhere, an odd size, layers half off the canvas, opacities and a blend mode."""
    made = [Layer(name=f"layer {i}", color=random(3, height, width, seed=i), alpha=random(1, height, width, seed=50 + i))
            for i in range(layers)]
    stack = LayerStack(width=width, height=height, layers=tuple(made)).with_layer(0, alpha=torch.ones(1, height, width))
    return stack.with_layer(1, x=5, y=-4, opacity=0.7).with_layer(2, blend_mode="overlay")


def levels(picture: Tensor) -> Tensor:
    return (picture * 255).round()


# The equations


def test_light_left_is_what_multiply_and_screen_need() -> None:
    before, after = random(3, 40, 40), random(3, 40, 40, seed=1)
    before[:, 0], after[:, 1], before[:, 2], after[:, 3] = 0, 0, 1, 1
    shadow, light = light_left(before, after), light_left(1 - before, 1 - after)
    assert 0 <= min(shadow.min(), light.min()) and max(shadow.max(), light.max()) <= 1
    assert bool(((shadow == 1) | (light == 1)).all())
    torch.testing.assert_close(1 - (1 - before * shadow) * light, after, atol=1e-6, rtol=1e-5)


def test_uncover_is_equation_1_solved_for_the_background() -> None:
    ground, color, alpha = random(3, 9, 9), random(3, 9, 9, seed=1), 0.9 * random(1, 9, 9, seed=2)
    picture = ground * (1 - alpha) + color * alpha
    torch.testing.assert_close(uncover(picture, color * alpha, 1 - alpha), ground, atol=1e-5, rtol=0)


# Recomposition


@pytest.mark.parametrize("seed", range(20))
def test_a_scene_and_its_effects_flatten_to_the_harmonised_picture(seed: int) -> None:
    stack, picture = stack_of(make_scene(seed, split="test"))
    effects = find_effects(stack, picture)
    layered = with_effects(stack, effects)
    assert composite_psnr(flatten(stack), picture)[0] < 35
    assert composite_psnr(flatten(layered), picture)[0] > 48
    assert (flatten(layered) - picture).abs().max() <= 1.01 / 255
    assert torch.equal(levels(flatten(with_residual(layered, picture))), levels(picture))


def test_shadows_on_the_ground_lie_below_the_objects_and_explain_most() -> None:
    stack, picture = stack_of(make_scene(3, foregrounds=2))
    effects = find_effects(stack, picture)
    layered = with_effects(stack, effects)
    assert [layer.name for layer in layered.layers[:3]] == ["background", "effects: shadows", stack.layers[1].name]
    plain = torch.ones_like(picture)
    below = with_effects(stack, replace(effects, shadows_above=plain, lights_above=plain))
    assert composite_psnr(flatten(below), picture)[0] > composite_psnr(flatten(stack), picture)[0] + 10


@pytest.mark.parametrize("seed", range(5))
def test_any_picture_is_reached_from_any_opaque_stack(seed: int) -> None:
    stack, picture = random_stack(), random(3, 13, 19, seed=100 + seed)
    assert (flatten(with_effects(stack, find_effects(stack, picture))) - picture).abs().max() <= 1.01 / 255
    assert (flatten(with_effects(stack, find_effects(stack, picture, least=0.1))) - picture).abs().max() <= 0.1001


def test_a_background_that_is_no_solid_ground_gets_no_effects_of_its_own() -> None:
    solid = Layer(name="solid", color=random(3, 13, 19, seed=9), alpha=torch.ones(1, 13, 19))
    stack = random_stack().with_layer(0, alpha=torch.full((1, 13, 19), 0.5))
    stack = replace(stack, layers=(stack.background, solid, *stack.foregrounds))
    picture = flatten(stack) * 0.5
    layered = with_effects(stack, find_effects(stack, picture))
    assert [layer.name for layer in layered.layers[-1:]] == ["effects: shadows on objects"]
    assert len(layered.layers) == len(stack.layers) + 1
    assert (flatten(layered) - picture).abs().max() <= 1.01 / 255


def test_a_picture_that_is_no_other_has_no_effects() -> None:
    stack = random_stack()
    effects = find_effects(stack, flatten(stack))
    assert all(bool((getattr(effects, name) == 1).all()) for name in FIELDS)
    assert with_effects(stack, effects).layers == stack.layers
    kept = with_effects(stack, effects, keep_empty=True)
    assert len(kept.layers) == len(stack.layers) + 4 and torch.equal(flatten(kept), flatten(stack))


def test_a_shadow_goes_on_under_the_object_that_covers_it() -> None:
    ground = Layer(name="ground", color=torch.full((3, 32, 32), 0.8), alpha=torch.ones(1, 32, 32))
    alpha = torch.zeros(1, 32, 32)
    alpha[:, 12:20, 12:20] = 1
    stack = LayerStack(width=32, height=32, layers=(ground, Layer(name="box", color=random(3, 32, 32), alpha=alpha)))
    shade = torch.full((3, 32, 32), 0.5)
    effects = find_effects(stack, flatten(stack.with_layer(0, color=ground.color * shade)))
    torch.testing.assert_close(effects.shadows, shade, atol=1e-5, rtol=0)
    assert bool((effects.lights_above == 1).all()) and bool((effects.shadows_above == 1).all())


# Read back


@pytest.mark.parametrize("source", SOURCES)
def test_files_give_back_layers_modes_effects_and_the_picture(tmp_path: Path, source: str) -> None:
    stack, picture = stack_of(make_scene(5, foregrounds=3, size=(96, 72)))
    layered = with_effects(stack, find_effects(stack, picture), keep_empty=True)
    loaded = load_stack(save_stack(layered, tmp_path / "out") / source)
    assert [(x.name, x.blend_mode) for x in loaded.layers] == [(x.name, x.blend_mode) for x in layered.layers]
    assert composite_psnr(flatten(loaded), picture)[0] > 48
    plain, effects = without_effects(loaded)
    assert effects is not None and len(plain.layers) == len(stack.layers)
    again = with_effects(plain, effects, keep_empty=True)
    for one, other in zip(again.layers, loaded.layers, strict=True):
        assert torch.equal(levels(one.rgba), levels(other.rgba)), one.name


def test_photoshop_finds_multiply_and_screen(tmp_path: Path) -> None:
    stack, picture = stack_of(make_scene(5, foregrounds=1))
    folder = save_stack(with_effects(stack, find_effects(stack, picture), keep_empty=True), tmp_path / "out")
    modes = [layer.blend_mode for layer in PSDImage.open(folder / "stack.psd")]
    pair = [BlendMode.MULTIPLY, BlendMode.SCREEN]
    assert modes == [BlendMode.NORMAL, *pair, BlendMode.NORMAL, *pair]


def test_what_an_artist_did_to_an_effects_layer_counts() -> None:
    stack, effects = boxes()
    index = [layer.name for layer in with_effects(stack, effects).layers].index("effects: shadows")
    softer = with_effects(stack, effects).with_layer(index, opacity=0.5)
    found = without_effects(softer)[1]
    assert found is not None
    torch.testing.assert_close(found.shadows, (1 + effects.shadows) / 2, atol=1 / 255, rtol=0)
    hidden = without_effects(softer.with_layer(index, visible=False))[1]
    assert hidden is not None and bool((hidden.shadows == 1).all())
    assert without_effects(stack) == (stack, None)


# Moved with their objects


def boxes() -> tuple[LayerStack, Effects]:
    """Two boxes on a bright ground, each with a shadow to its right, and a highlight on the second."""
    ground = Layer(name="ground", color=torch.full((3, 40, 80), 0.9), alpha=torch.ones(1, 40, 80))
    shadows, lights = torch.ones(3, 40, 80), torch.ones(3, 40, 80)
    layers = [ground]
    for left in (8, 46):
        alpha = torch.zeros(1, 40, 80)
        alpha[:, 10:26, left : left + 10] = 1
        shadows[:, 20:26, left + 10 : left + 20] = 0.5
        layers.append(Layer(name=f"box at {left}", color=torch.full((3, 40, 80), 0.3), alpha=alpha))
    lights[:, 12:16, 48:52] = 0.7
    plain = torch.ones(3, 40, 80)
    stack = LayerStack(width=80, height=40, layers=tuple(layers))
    return stack, Effects(shadows=shadows, lights=plain, shadows_above=plain, lights_above=lights)


def test_a_shadow_moves_with_its_object_and_the_other_stays() -> None:
    stack, effects = boxes()
    moved = move_effects(effects, stack, {1: LayerEdit(dy=12)})
    expected = effects.shadows.clone()
    expected[:, 20:26, 18:28] = 1
    expected[:, 32:38, 18:28] = 0.5
    torch.testing.assert_close(moved.shadows, expected, atol=0.02, rtol=0)
    assert torch.equal(moved.lights_above, effects.lights_above)


def test_an_edit_without_a_center_is_about_the_layers_own() -> None:
    stack, effects = boxes()
    op = LayerEdit(scale_x=1.5, scale_y=1.5, dx=2)
    own = move_effects(effects, stack, {1: replace(op, center=own_center(stack.layers[1]))})
    found = move_effects(effects, stack, {1: op})
    for name in FIELDS:
        assert torch.equal(getattr(found, name), getattr(own, name))
    assert not torch.equal(found.shadows, move_effects(effects, stack, {1: replace(op, center=(40, 20))}).shadows)


def test_light_on_an_object_goes_with_its_pixels_unless_it_is_covered_there() -> None:
    stack, effects = boxes()
    moved = move_effects(effects, stack, {2: LayerEdit(dx=3, dy=9)})
    expected = torch.ones_like(effects.lights_above)
    expected[:, 21:25, 51:55] = 0.7
    torch.testing.assert_close(moved.lights_above, expected)
    swapped = replace(stack, layers=(stack.background, stack.layers[2], stack.layers[1]))
    hidden = move_effects(effects, swapped, {1: LayerEdit(dx=-38)})
    assert bool((hidden.lights_above == 1).all())


def test_a_deleted_object_takes_its_shadow_along() -> None:
    stack, effects = boxes()
    left = move_effects(effects, stack, {2: None})
    assert bool((left.lights_above == 1).all())
    assert (left.shadows[:, 20:26, 56:66] > 0.98).all() and (left.shadows[:, 20:26, 18:28] < 0.52).all()


def test_nothing_moves_without_edits_and_whole_moves_can_be_undone() -> None:
    stack, effects = boxes()
    still = move_effects(effects, stack, {1: LayerEdit(), 2: LayerEdit()})
    for name in FIELDS:
        torch.testing.assert_close(getattr(still, name), getattr(effects, name))
    assert move_effects(effects, stack, {}) is effects
    flipped = move_effects(effects, stack, {1: LayerEdit(flip_horizontal=True, center=(13, 18))})
    torch.testing.assert_close(flipped.shadows, effects.shadows)  # the light comes from where it came from


def test_a_black_shadow_moves_as_any_other() -> None:
    """Any power of 0 is 0: the smallest share must not take all of it, nor leave any."""
    stack, effects = boxes()
    factors = {name: torch.where(getattr(effects, name) < 1, 0.0, 1.0) for name in FIELDS}
    moved = move_effects(Effects(**factors), stack, {1: LayerEdit(dy=12)})
    expected = factors["shadows"].clone()
    expected[:, 20:26, 18:28] = 1
    expected[:, 32:38, 18:28] = 0
    assert ((moved.shadows - expected).abs() > 0.05).float().mean() < 0.01
    for edits in ({1: LayerEdit(dy=3), 2: LayerEdit(dx=3)}, {1: None, 2: None}):
        moved = move_effects(Effects(**factors), stack, edits)
        for name in FIELDS:
            assert 0 <= getattr(moved, name).min() and getattr(moved, name).max() <= 1  # NaN is neither


def test_moved_shadows_are_nearer_to_the_truth_than_none_and_than_those_left_behind() -> None:
    errors: list[tuple[float, float, float]] = []
    for seed in range(6):
        first, second = (make_scene(seed, foregrounds=1, split="test") for _ in range(2))
        stack, picture = stack_of(first)
        effects, dx = find_effects(stack, picture), 30 if first.objects[0].foot[0] < 64 else -30
        moved_stack = stack.with_layer(1, x=dx)
        truth = _moved_truth(second, dx)
        shadows = torch.from_numpy(first.shadows).roll(dx, -1)
        alphas = moved_stack.layers[1].on_canvas(128, 128).alpha
        results = [flatten(moved_stack), flatten(with_effects(moved_stack, effects)),
                   flatten(with_effects(moved_stack, move_effects(effects, stack, {1: LayerEdit(dx=dx)})))]
        found = [shadow_error(result, truth, shadows, alphas) for result in results]
        errors.append((found[0] or 0.0, found[1] or 0.0, found[2] or 0.0))
    pasted, left, moved = torch.tensor(errors).mean(dim=0).tolist()
    assert moved < pasted / 4 and moved < left / 2


def _moved_truth(scene: Scene, dx: int) -> Tensor:
    """The scene's object and its shadow moved sideways: on level ground under a far light both only shift."""
    stack, _ = stack_of(scene)
    shadow = torch.from_numpy(scene.shadows[0]).roll(dx, -1)
    tint = torch.tensor([1.0, 0.97, 0.90])[:, None, None]
    shaded = stack.background.color * (1 - shadow * tint)
    return flatten(stack.with_layer(0, color=shaded).with_layer(1, x=dx))


# Whose shadow it is


def test_paths_go_round_walls() -> None:
    starts, step = torch.zeros(1, 5, 5, dtype=torch.bool), torch.ones(1, 5, 5)
    starts[0, 0, 0] = True
    step[:, :4, 2] = 100
    lengths = path_lengths(starts, step)[0]
    assert lengths[0].tolist() == [0, 1, 100 + 1, *lengths[0, 3:].tolist()]
    assert lengths[0, 4] == 8 and lengths[4, 2] == 4
    assert bool(path_lengths(torch.zeros_like(starts), step).isinf().all())


def test_shares_name_the_object_whose_shadow_it_is() -> None:
    scene = make_scene(7, foregrounds=2, split="test")
    alphas, shadows = torch.from_numpy(scene.alphas), torch.from_numpy(scene.shadows)
    strength = 1 - (1 - shadows).prod(0)
    shares = object_shares(alphas, strength)
    assert shares.shape == alphas.shape and shares.min() >= 0 and shares.sum(0).max() <= 1 + 1e-5
    weight = shadows * (alphas.amax(0) < 0.02)
    own = (shares * weight).sum((1, 2)) / weight.sum((1, 2))
    assert own.min() > 0.75
    assert torch.equal(object_shares(alphas.flip(0), strength), shares.flip(0))


def test_a_picture_that_is_darker_all_over_has_no_owner() -> None:
    alphas = torch.zeros(1, 64, 64)
    alphas[:, 28:36, 28:36] = 1
    shares = object_shares(alphas, torch.full((64, 64), 0.01))
    assert shares[0, 28:36, 28:36].min() > 0.9 and shares[0, :20].max() < 0.01
    assert object_shares(torch.zeros(2, 300, 20), torch.ones(300, 20)).max() == 0  # nothing there: no owner either


# Filling


def test_filling_keeps_what_is_known_and_is_smooth_in_between() -> None:
    ramp = torch.linspace(0, 1, 40).expand(3, 24, 40)
    known = torch.ones(1, 24, 40, dtype=torch.bool)
    known[:, 8:16, 12:28] = False
    filled = fill_smoothly(torch.where(known, ramp, 0.0), known, steps=400)
    assert torch.equal(filled[:, known[0]], ramp[:, known[0]])
    assert (filled - ramp).abs().max() < 0.02
    assert fill_smoothly(ramp, torch.zeros_like(known)) is ramp


# Residual


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["scene", "random"])
def test_a_saved_stack_with_residual_is_the_picture_bit_for_bit(tmp_path: Path, source: str, kind: str) -> None:
    if kind == "scene":
        stack, picture = stack_of(make_scene(11, foregrounds=2, size=(70, 50)))
        stack = with_effects(stack, find_effects(stack, picture))
    else:
        stack, picture = random_stack(), random(3, 13, 19, seed=77)
    exact = with_residual(stack, picture)
    folder = save_stack(exact, tmp_path / "out")
    loaded = load_stack(folder / source)
    assert torch.equal(levels(flatten(exact)), levels(picture))
    assert torch.equal(levels(flatten(loaded)), levels(picture))
    assert torch.equal(flatten(loaded), flatten(exact))


def test_a_residual_is_only_where_it_is_needed_and_is_replaced() -> None:
    stack = eight_bit(random_stack().with_layer(2, blend_mode="normal"))
    picture = levels(flatten(stack)) / 255
    picture[:, 2, 3] = 1 - picture[:, 2, 3]
    exact = with_residual(stack, picture)
    assert exact.layers[-1].name == RESIDUAL_LAYER
    marked = exact.layers[-1].alpha[0] > 0
    assert bool(marked[2, 3]) and marked.sum() <= 13 * 19 * 0.1  # the others are within a hundredth level of a tie
    again = with_residual(exact, 1 - picture)
    assert len(again.layers) == len(exact.layers)
    assert torch.equal(levels(flatten(again)), levels(1 - picture))
    assert len(without_residual(again).layers) == len(stack.layers)


# Bad input


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, p: find_effects(s, p[:, :, 1:]), "give finite \\(3, 13, 19\\)"),
        (lambda s, p: find_effects(s, p * torch.nan), "finite"),
        (lambda s, p: find_effects(s, p * 2), "values 0.* to 1.*; give 0 \\(black\\) to 1"),
        (lambda s, p: find_effects(s, p - 0.5), "values -0.* to 0.*; give 0"),
        (lambda s, p: find_effects(s, p, least=-1.0), "least = -1.0"),
        (lambda s, p: find_effects(s.with_layer(0, visible=False), p), "transparent at"),
        (lambda s, p: find_effects(with_effects(s, find_effects(s, p)), p), "already"),
        (lambda s, p: with_effects(random_stack(width=5), find_effects(s, p)), "\\(3, 13, 5\\)"),
        (lambda s, p: move_effects(find_effects(s, p), s, {0: LayerEdit()}), "layer 0; give 1 to 2"),
        (lambda s, p: move_effects(find_effects(s, p), s, {3: None}), "layer 3"),
        (lambda s, p: Effects(shadows=p, lights=p, shadows_above=p, lights_above=p[:1]), "all four"),
        (lambda s, p: Effects(shadows=p, lights=p / 0, shadows_above=p, lights_above=p * torch.nan),
         "NaN or infinite factors in lights, lights_above"),
        (lambda s, p: with_residual(s, p[:1]), "give finite \\(3, 13, 19\\)"),
        (lambda s, p: without_residual(s.with_layer(0, name=RESIDUAL_LAYER).with_layer(1, name=RESIDUAL_LAYER)
                                       .with_layer(2, name=RESIDUAL_LAYER)), "residual layers only"),
        (lambda s, p: fill_smoothly(p, torch.ones(1, 2, 2, dtype=torch.bool)), "known \\(1, 2, 2\\)"),
        (lambda s, p: object_shares(p, torch.ones(2, 2)), "strength \\(2, 2\\)"),
    ],
)
def test_values_that_do_not_fit_are_refused(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call(random_stack(), random(3, 13, 19, seed=5))  # type: ignore[operator]
