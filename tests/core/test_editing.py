import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamlayer_core.composite import gray_fill
from dreamlayer_core.config import HarmonizationConfig, SamplingConfig
from dreamlayer_core.edited_pixels import edit_pixels, own_center, unseen_part
from dreamlayer_core.editing import EditedStack, LayerChange, RunSettings, edit_layers, harmonize_stack
from dreamlayer_core.edits import LayerEdit, apply_edit
from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.regeneration import complete_layer
from dreamlayer_core.sampling import FINAL, Trajectory
from dreamlayer_core.stack_latents import check_fit, stack_pictures, stack_trajectory

from .tiny import PIXELS_PER_CELL

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box", negative="blur")
SAMPLING = SamplingConfig(steps=4, guidance=3.0)
SETTINGS = RunSettings(sampling=SAMPLING, views=1, negative="blur")
TIMES = [751, 501, 251, 1, FINAL]


@pytest.fixture(scope="module")
def made(tiny_dreamlayer: DreamLayer) -> LayeredResult:
    return tiny_dreamlayer.generate(
        PROMPTS, seed=5, sampling=SAMPLING, views=1, harmonization=HarmonizationConfig(), keep_all=True)


def _disc(name: str, center: tuple[int, int], radius: int, color: tuple[float, float, float]) -> Layer:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = (x - center[0] + 0.5) ** 2 + (y - center[1] + 0.5) ** 2 < radius**2
    paint = torch.tensor(color, dtype=torch.float32)[:, None, None].expand(3, 64, 64).contiguous()
    return Layer(name=name, prompt=name, color=paint, alpha=inside[None].float())


@pytest.fixture(scope="module")
def drawn() -> LayerStack:
    """A user's own stack: nobody has sampled it."""
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64).contiguous()
    hill = Layer(name="hill", prompt="a hill", color=ramp, alpha=torch.ones(1, 64, 64))
    return LayerStack(width=64, height=64, layers=(
        hill, _disc("ball", (20, 32), 8, (1, 0, 0)), _disc("box", (40, 32), 6, (0, 0, 1))))


@pytest.fixture(scope="module")
def path(tiny_dreamlayer: DreamLayer, drawn: LayerStack) -> Trajectory:
    return stack_trajectory(tiny_dreamlayer, drawn, TIMES)


def _harmonized(model: DreamLayer, edited: EditedStack) -> Tensor:
    return harmonize_stack(model, edited, SETTINGS)


# ---- nothing changes


def test_no_edit_is_plain_harmonisation_bit_for_bit(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    assert made.harmonized is not None
    for changes in ([], [LayerChange(layer=1), LayerChange(layer=0), LayerChange(layer=2, opacity=1.0, visible=True)]):
        edited = edit_layers(tiny_dreamlayer, made.trajectory, made.stacks[0], changes)
        assert torch.equal(_harmonized(tiny_dreamlayer, edited), made.harmonized[0])
        assert all(torch.equal(edited.trajectory.latents[t], z) for t, z in made.trajectory.latents.items())
        assert not edited.unseen.any()


def test_layers_without_a_change_stay_the_same_objects(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    stack = made.stacks[0]
    edited = edit_layers(tiny_dreamlayer, made.trajectory, stack, [LayerChange(layer=1, op=LayerEdit(dx=5, degrees=20))])
    assert edited.stack.layers[0] is stack.layers[0] and edited.stack.layers[2] is stack.layers[2]
    for t, z in made.trajectory.latents.items():
        assert torch.equal(edited.trajectory.latents[t][:, [0, 2, 3]], z[:, [0, 2, 3]])
        assert not torch.equal(edited.trajectory.latents[t][:, 1], z[:, 1])


# ---- op() of pixels, alphas and latents


def test_a_move_by_whole_cells_moves_latents_and_alphas_alike(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    op = LayerEdit(dx=2 * PIXELS_PER_CELL, dy=-PIXELS_PER_CELL)
    edited = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, op=op)])
    for t, z in path.latents.items():
        assert torch.equal(edited.trajectory.latents[t][0, 1, :, :-1, 2:], z[0, 1, :, 1:, :-2])
    alpha, before = edited.alphas[0], drawn.layers[1].alpha
    assert torch.equal(alpha[:, :-4, 8:], before[:, 4:, :-8])
    assert torch.equal(edited.stack.layers[1].on_canvas(64, 64).alpha, alpha)
    assert torch.equal(edited.alphas[1], drawn.layers[2].alpha)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[-1], expected[:, :2] = True, True
    assert torch.equal(edited.unseen[1], expected) and not edited.unseen[[0, 2]].any()


def test_what_comes_into_the_frame_is_gray_with_the_noise_of_its_timestep(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    op = LayerEdit(dx=-32)
    edited = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=2, op=op)])
    picture = gray_fill(edited.stack.layers[2].on_canvas(64, 64).color, edited.alphas[1])
    assert bool((picture[:, :, 32:] == 0.5).all())
    clean = edited.trajectory.latents[FINAL][0, 2]
    torch.testing.assert_close(clean[:, :, 8:], tiny_dreamlayer.encode_pictures(picture[None])[0, :, :, 8:])
    signal = tiny_dreamlayer.schedule.alphas_cumprod
    for t in (751, 501):
        noise = (edited.trajectory.latents[t][0, 2] - signal[t].sqrt() * clean) / (1 - signal[t]).sqrt()
        assert 0.75 < float(noise[:, :, 8:].std()) < 1.25
        assert abs(float(noise[:, :, 8:].mean())) < 0.2


def test_edits_between_cells_are_encoded_anew_or_snapped(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    change = LayerChange(layer=1, op=LayerEdit(dx=5))
    exact = edit_layers(tiny_dreamlayer, path, drawn, [change])
    pixels = exact.stack.layers[1]
    assert (pixels.x, pixels.y) == (5, 0) and torch.equal(exact.alphas[0], pixels.on_canvas(64, 64).alpha)
    shown = tiny_dreamlayer.encode_pictures(stack_pictures(exact.stack)[1:2])
    torch.testing.assert_close(exact.trajectory.latents[FINAL][0, 1], shown[0])
    snapped = edit_layers(tiny_dreamlayer, path, drawn, [change], between_cells="snap")
    whole = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, op=LayerEdit(dx=4))])
    assert torch.equal(snapped.alphas, whole.alphas)
    assert all(torch.equal(z[0, 1, :, :, 1:], whole.trajectory.latents[t][0, 1, :, :, 1:])
               for t, z in snapped.trajectory.latents.items())
    assert (snapped.stack.layers[1].x, whole.stack.layers[1].x) == (5, 4)


@pytest.mark.parametrize("op", [
    LayerEdit(scale_x=1.5, scale_y=1.5), LayerEdit(degrees=15), LayerEdit(flip_horizontal=True, dx=3), LayerEdit(degrees=90)])
def test_every_edit_leaves_usable_latents_and_a_layer_where_it_belongs(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory, op: LayerEdit
) -> None:
    edited = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, op=op)])
    area = drawn.layers[1].alpha.sum() * op.scale_x * op.scale_y
    assert abs(float(edited.alphas[0].sum() / area) - 1) < 0.06
    x, y = own_center(edited.stack.layers[1].on_canvas(64, 64))
    assert abs(x - 20 - op.dx) <= 1 and abs(y - 32) <= 1
    assert all(bool(torch.isfinite(z).all()) for z in edited.trajectory.latents.values())
    assert bool(torch.isfinite(_harmonized(tiny_dreamlayer, edited)).all())


def test_moving_beyond_the_canvas_and_back_loses_nothing(drawn: LayerStack) -> None:
    ball = drawn.layers[1]
    back = edit_pixels(edit_pixels(ball, LayerEdit(dx=-50, dy=7)), LayerEdit(dx=50, dy=-7))
    assert torch.equal(back.rgba, ball.rgba) and (back.x, back.y) == (0, 0)
    twice = edit_pixels(edit_pixels(ball, LayerEdit(flip_vertical=True)), LayerEdit(flip_vertical=True))
    assert torch.equal(twice.on_canvas(64, 64).alpha, ball.alpha)


def test_edits_about_a_point_turn_around_it(drawn: LayerStack) -> None:
    turned = edit_pixels(drawn.layers[1], LayerEdit(degrees=180, center=(32, 32)))
    assert own_center(turned) == (44, 32)
    mirrored = edit_pixels(drawn.layers[1], LayerEdit(flip_horizontal=True, scale_x=2, scale_y=2, center=(20, 32)))
    assert own_center(mirrored) == (20, 32) and mirrored.box == (4, 16, 36, 48)


def test_what_lies_beyond_the_canvas_comes_back(tiny_dreamlayer: DreamLayer, drawn: LayerStack) -> None:
    """A PSD's layers reach beyond the canvas: what is there is known."""
    outside = edit_pixels(drawn.layers[1], LayerEdit(dx=-24))
    stack = replace(drawn, layers=(drawn.layers[0], outside, drawn.layers[2]))
    path = stack_trajectory(tiny_dreamlayer, stack, TIMES)
    edited = edit_layers(tiny_dreamlayer, path, stack, [LayerChange(layer=1, op=LayerEdit(dx=24))])
    assert torch.equal(edited.alphas[0], drawn.layers[1].alpha)
    shown = tiny_dreamlayer.encode_pictures(stack_pictures(drawn)[1:2])
    torch.testing.assert_close(edited.trajectory.latents[FINAL][0, 1], shown[0])
    assert not edited.unseen[1, :, :14].any()


@pytest.mark.parametrize("op", [
    LayerEdit(dx=7.5, dy=-3), LayerEdit(scale_x=0.4, scale_y=0.7, center=(10, 30)), LayerEdit(scale_x=3, scale_y=3),
    LayerEdit(degrees=30, dx=20), LayerEdit(flip_horizontal=True, degrees=90, dx=5), LayerEdit()])
def test_unseen_is_what_canvas_and_layer_do_not_reach(drawn: LayerStack, op: LayerEdit) -> None:
    """Against op() of a picture of what is held, on a canvas that is wide enough to hold all of it."""
    layer, far = replace(drawn.layers[1], x=-40, y=20), 96
    held = torch.zeros(64 + 2 * far, 64 + 2 * far)
    held[far : far + 64, far : far + 64] = 1
    held[far + 20 : far + 84, far - 40 : far + 24] = 1
    x, y = op.center or own_center(layer)
    shown = apply_edit(held, replace(op, center=(x + far, y + far)), pixels_per_cell=1)[far : far + 64, far : far + 64]
    found = unseen_part(layer, op, (64, 64))
    torch.testing.assert_close(found, 1 - shown, atol=0.45 if op.scale_x < 1 else 0.02, rtol=0)  # antialiasing blurs
    assert float((found - (1 - shown)).abs().mean()) < 0.01


def test_a_layer_far_away_takes_no_memory_of_its_distance(drawn: LayerStack) -> None:
    away = replace(drawn.layers[1], x=10**7, y=-(10**7))
    op = LayerEdit(dx=-(10**7) + 32, dy=10**7)
    unseen = unseen_part(away, op, (64, 64))
    assert torch.equal(unseen[:, 32:], torch.zeros(64, 32)) and torch.equal(unseen[:, :32], torch.ones(64, 32))


def test_a_moved_background_is_continued_by_its_edges(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    edited = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=0, op=LayerEdit(dx=16))])
    background = edited.stack.background
    assert torch.equal(background.color[:, :, 16:], drawn.background.color[:, :, :-16])
    assert bool((background.alpha == 1).all()) and float(background.color[:, :, :16].max()) < 0.15
    assert bool(edited.unseen[0, :, :4].all()) and not edited.unseen[0, :, 4:].any()


def test_cut_out_layers_are_unknown_where_others_covered_them(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    hole = 1 - drawn.layers[2].alpha
    stack = drawn.with_layer(0, alpha=hole)
    edited = edit_layers(tiny_dreamlayer, path, stack, [LayerChange(layer=2, op=LayerEdit(dx=8))], covered=True)
    assert bool(edited.unseen[0, 7:9, 9:11].all()) and not edited.unseen[0, :, :8].any()
    assert not edit_layers(tiny_dreamlayer, path, stack, [], covered=False).unseen.any()


# ---- order, visibility, opacity


def test_order_visibility_and_deletion_are_those_of_a_stack_made_so(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    swapped = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=2, position=1)])
    assert [layer.name for layer in swapped.stack.layers] == ["hill", "box", "ball"]
    assert all(torch.equal(z, path.latents[t][:, [0, 2, 1, 3]]) for t, z in swapped.trajectory.latents.items())
    gone = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, delete=True)])
    assert [layer.name for layer in gone.stack.layers] == ["hill", "box"] and gone.alphas.shape[0] == 1
    hidden = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, visible=False)])
    faint = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, opacity=0.0)])
    pictures = [_harmonized(tiny_dreamlayer, one) for one in (gone, hidden, faint)]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[1], pictures[2])
    shown = edit_layers(tiny_dreamlayer, hidden.trajectory, hidden.stack, [LayerChange(layer=1, visible=True)])
    plain = edit_layers(tiny_dreamlayer, path, drawn, [])
    assert torch.equal(_harmonized(tiny_dreamlayer, shown), _harmonized(tiny_dreamlayer, plain))


def test_every_layer_comes_to_the_position_it_was_given(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack
) -> None:
    stack = replace(drawn, layers=(*drawn.layers, replace(drawn.layers[1], name="top")))
    path = stack_trajectory(tiny_dreamlayer, stack, TIMES)
    for changes in ((1, 2), (3, 1)), ((3, 1), (1, 2)):
        edited = edit_layers(tiny_dreamlayer, path, stack, [LayerChange(layer=old, position=new) for old, new in changes])
        assert [layer.name for layer in edited.stack.layers] == ["hill", "top", "ball", "box"]
        assert all(torch.equal(z, path.latents[t][:, [0, 3, 1, 2, 4]]) for t, z in edited.trajectory.latents.items())


def test_opacity_lessens_the_alpha_of_harmonisation(tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory) -> None:
    half = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=1, opacity=0.5), LayerChange(layer=2, visible=False)])
    full = edit_layers(tiny_dreamlayer, path, drawn, [LayerChange(layer=2, visible=False)])
    lessened = replace(full, alphas=full.alphas * 0.5)
    assert torch.equal(_harmonized(tiny_dreamlayer, half), _harmonized(tiny_dreamlayer, lessened))


def test_a_stack_without_foregrounds_is_its_background(tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory) -> None:
    changes = [LayerChange(layer=1, delete=True), LayerChange(layer=2, delete=True)]
    alone = edit_layers(tiny_dreamlayer, path, drawn, changes)
    assert alone.alphas.shape == (0, 1, 64, 64) and _harmonized(tiny_dreamlayer, alone).shape == (3, 64, 64)


def test_sizes_that_are_no_multiple_of_the_models_cells(tiny_dreamlayer: DreamLayer) -> None:
    result = tiny_dreamlayer.generate(
        PROMPTS, size=(50, 70), seed=1, sampling=SAMPLING, views=1, harmonization=HarmonizationConfig(), keep_all=True)
    edited = edit_layers(
        tiny_dreamlayer, result.trajectory, result.stacks[0], [LayerChange(layer=1, op=LayerEdit(dx=3, dy=-9))])
    assert _harmonized(tiny_dreamlayer, edited).shape == (3, 70, 50)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_trajectory_on_the_cpu_is_edited_with_a_model_on_another_device(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    model = copy.deepcopy(tiny_dreamlayer)
    for part in (model.unet, model.vae, model.text_encoders, model.decoder, model.adapter):
        if part is not None:
            part.to("cuda")
    changes = [LayerChange(layer=1, op=LayerEdit(dx=5)), LayerChange(layer=0, op=LayerEdit(dx=8))]
    edited = edit_layers(model, path, drawn, changes)
    done = complete_layer(model, edited, 0, settings=SETTINGS)
    for one in (edited, done):
        assert all(z.device.type == "cpu" for z in one.trajectory.latents.values())
        assert _harmonized(model, one).device.type == "cpu"
    expected = _harmonized(tiny_dreamlayer, edit_layers(tiny_dreamlayer, path, drawn, changes))
    torch.testing.assert_close(_harmonized(model, edited), expected, atol=0.02, rtol=0)


# ---- what is refused


@pytest.mark.parametrize(("changes", "message"), [
    ([LayerChange(layer=3)], "layer 3 of a stack of 3; give 0"),
    ([LayerChange(layer=-1)], "layer -1 of a stack of 3"),
    ([LayerChange(layer=1), LayerChange(layer=1)], "two changes of layer 1"),
    ([LayerChange(layer=0, delete=True)], "background can be neither"),
    ([LayerChange(layer=0, visible=False)], "background can be neither"),
    ([LayerChange(layer=1, position=0)], "position 0 for layer 1; give 1 to 2"),
    ([LayerChange(layer=1, position=2), LayerChange(layer=2, delete=True)], "give 1 to 1"),
    ([LayerChange(layer=1, position=2), LayerChange(layer=2, position=2)], "position 2 for layers 1 and 2; give each its own"),
    ([LayerChange(layer=1, op=LayerEdit(dx=64))], "would leave the canvas of 64x64"),
    ([LayerChange(layer=1, opacity=1.5)], "opacity 1.5"),
    ([LayerChange(layer=0, opacity=0.5)], "opacity 0.5 for the background, .*; leave it at 1.0"),
    ([LayerChange(layer=1, op=LayerEdit(scale_x=9, scale_y=9, dx=-999))], "would leave the canvas"),
    ([LayerChange(layer=0, op=LayerEdit(dy=-64))], "would leave the canvas"),
    ([LayerChange(layer=0, op=LayerEdit(scale_x=100, scale_y=100))], "6400x6400 pixels; scale it less"),
])
def test_impossible_edits_are_refused(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory, changes: list[LayerChange], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        edit_layers(tiny_dreamlayer, path, drawn, changes)


def test_trajectories_of_other_stacks_and_runs_are_refused(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    fewer = replace(drawn, layers=drawn.layers[:2])
    with pytest.raises(InputError, match="for a stack of 2 layers"):
        edit_layers(tiny_dreamlayer, path, fewer, [])
    with pytest.raises(InputError, match="at 96x64"):
        check_fit(tiny_dreamlayer, path, replace(drawn, width=96))
    with pytest.raises(InputError, match="without latents"):
        check_fit(tiny_dreamlayer, Trajectory(), drawn)
    edited = edit_layers(tiny_dreamlayer, path, drawn, [])
    with pytest.raises(InputError, match="which a run of 5 steps does not visit"):
        harmonize_stack(tiny_dreamlayer, edited, replace(SETTINGS, sampling=SamplingConfig(steps=5)))


def test_blend_modes_and_hidden_backgrounds_cannot_be_harmonised(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    shade = edit_layers(tiny_dreamlayer, path, drawn.with_layer(2, blend_mode="multiply"), [])
    with pytest.raises(InputError, match="layer 2 .*'multiply'"):
        _harmonized(tiny_dreamlayer, shade)
    assert _harmonized(tiny_dreamlayer, replace(shade, stack=shade.stack.with_layer(2, visible=False))).shape == (3, 64, 64)
    dark = edit_layers(tiny_dreamlayer, path, drawn.with_layer(0, visible=False), [])
    with pytest.raises(InputError, match="background is hidden"):
        _harmonized(tiny_dreamlayer, dark)


def test_a_trajectory_of_pixels_decodes_to_the_pixels_and_has_its_noise(
    tiny_dreamlayer: DreamLayer, drawn: LayerStack, path: Trajectory
) -> None:
    shown = tiny_dreamlayer.encode_pictures(stack_pictures(drawn))
    assert torch.equal(path.latents[FINAL][0], shown) and list(path.latents) == TIMES
    rows = (path.latents[751] - path.latents[FINAL] * tiny_dreamlayer.schedule.alphas_cumprod[751].sqrt())[0].flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.2, "every row has noise of its own"
