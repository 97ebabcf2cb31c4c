from dataclasses import replace

import pytest
import torch

from dreamlayer_core.config import HarmonizationConfig, SamplingConfig
from dreamlayer_core.editing import EditedStack, LayerChange, RunSettings, edit_layers
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import LayerStack
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.regeneration import add_layer, complete_layer, regenerate_layer
from dreamlayer_core.sampling import FINAL, Replay, Step, Trajectory
from dreamlayer_core.stack_latents import stack_trajectory

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box")
SAMPLING = SamplingConfig(steps=4, guidance=3.0)
SETTINGS = RunSettings(sampling=SAMPLING, views=1)
FLAT = replace(SETTINGS, harmonization=None)
TIMES = [751, 501, 251, 1, FINAL]


@pytest.fixture(scope="module")
def made(tiny_dreamlayer: DreamLayer) -> LayeredResult:
    return tiny_dreamlayer.generate(
        PROMPTS, seed=5, sampling=SAMPLING, views=1, harmonization=HarmonizationConfig(), keep_all=True)


def _same_but(edited: EditedStack, made: LayeredResult, layer: int) -> None:
    """Every layer but one has its pixels and its trajectory, bit for bit."""
    rows = [row for row in range(len(made.stacks[0].layers)) if row != layer]
    assert max(float((edited.stack.layers[r].rgba - made.stacks[0].layers[r].rgba).abs().max()) for r in rows) == 0
    assert edited.trajectory.latents.keys() == made.trajectory.latents.keys()
    for t, z in made.trajectory.latents.items():
        assert torch.equal(edited.trajectory.latents[t][:, rows], z[:, rows])


# ---- one layer anew


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_regenerated_layer_changes_alone(tiny_dreamlayer: DreamLayer, made: LayeredResult, layer: int) -> None:
    edited = regenerate_layer(
        tiny_dreamlayer, made.trajectory, made.stacks[0], layer, prompt="a tall vase", seed=9, settings=SETTINGS)
    _same_but(edited, made, layer)
    new, old = edited.stack.layers[layer], made.stacks[0].layers[layer]
    assert (new.prompt, new.seed) == ("a tall vase", 9)
    assert new.name == ("a tall vase" if layer else "background")
    assert not torch.allclose(new.rgba, old.rgba, atol=1e-3)
    assert edited.harmonized is not None and edited.harmonized.shape == (3, 64, 64)
    assert made.harmonized is not None and not torch.equal(edited.harmonized, made.harmonized[0])


def test_the_same_prompt_and_seed_bring_the_same_layer_back(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    """The others are what they were, the noise too: the run is the one that made the stack."""
    again = regenerate_layer(tiny_dreamlayer, made.trajectory, made.stacks[0], 1, settings=SETTINGS)
    for t, z in made.trajectory.latents.items():
        torch.testing.assert_close(again.trajectory.latents[t], z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(again.stack.layers[1].rgba, made.stacks[0].layers[1].rgba, rtol=1e-3, atol=1e-3)


def test_the_new_layer_sees_the_others(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    other = Trajectory({t: torch.cat([z[:, :2], -z[:, 2:3], z[:, 3:]], 1) for t, z in made.trajectory.latents.items()})
    one, two = (regenerate_layer(tiny_dreamlayer, path, made.stacks[0], 1, seed=9, settings=FLAT)
                for path in (made.trajectory, other))
    assert not torch.allclose(one.trajectory.latents[FINAL][:, 1], two.trajectory.latents[FINAL][:, 1], atol=1e-3)


def test_hidden_layers_are_not_seen_and_keep_their_trajectory(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    stack = made.stacks[0].with_layer(2, visible=False)
    shown = list[int]()
    edited = regenerate_layer(tiny_dreamlayer, made.trajectory, stack, 1, seed=9, settings=FLAT,
                              on_step=lambda step: shown.append(step.latents.shape[1]))
    assert set(shown) == {3}
    assert all(torch.equal(edited.trajectory.latents[t][:, 2], z[:, 2]) for t, z in made.trajectory.latents.items())


def test_a_seed_draws_the_noise_of_generate_whatever_is_hidden_below(
    tiny_dreamlayer: DreamLayer, made: LayeredResult
) -> None:
    path, first = made.trajectory, next(iter(made.trajectory.latents))
    stack = made.stacks[0].with_layer(1, visible=False)
    again, other = (regenerate_layer(tiny_dreamlayer, path, stack, 2, seed=seed, settings=FLAT) for seed in (5, 6))
    assert torch.equal(again.trajectory.latents[first][:, 2], path.latents[first][:, 2])
    assert not torch.equal(other.trajectory.latents[first][:, 2], path.latents[first][:, 2])


def test_maps_name_the_layers_that_they_are_of(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    for hidden, layer, mapped in ((1, 1, (1, 2)), (1, 2, (2,)), (2, 0, (1,))):
        edited = regenerate_layer(
            tiny_dreamlayer, made.trajectory, made.stacks[0].with_layer(hidden, visible=False), layer, seed=9, settings=FLAT)
        assert edited.context_maps is not None and len(edited.context_maps) == len(mapped)
        assert edited.mapped == mapped


def test_replaying_all_rows_returns_the_stored_finals(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    again = tiny_dreamlayer.generate(
        PROMPTS, seed=77, sampling=SAMPLING, views=1, replay=Replay.of(made.trajectory, range(4)))
    assert torch.equal(again.latents, made.latents)
    for old, new in zip(made.stacks[0].layers, again.stacks[0].layers, strict=True):
        assert torch.equal(old.rgba, new.rgba)


def test_a_users_own_stack_is_regenerated_from_its_pixels(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    stack = replace(made.stacks[0], layers=tuple(replace(one, seed=None) for one in made.stacks[0].layers))
    path = stack_trajectory(tiny_dreamlayer, stack, TIMES)
    edited = regenerate_layer(tiny_dreamlayer, path, stack, 1, prompt="a cup", settings=SETTINGS)
    assert torch.equal(edited.stack.layers[2].rgba, stack.layers[2].rgba)
    assert torch.equal(edited.trajectory.latents[FINAL][:, [0, 2]], path.latents[FINAL][:, [0, 2]])
    assert bool(torch.isfinite(edited.stack.layers[1].rgba).all())


# ---- one layer more


@pytest.mark.parametrize("position", [None, 1, 2])
def test_an_added_layer_leaves_the_others_as_they_are(
    tiny_dreamlayer: DreamLayer, made: LayeredResult, position: int | None
) -> None:
    edited = add_layer(tiny_dreamlayer, made.trajectory, made.stacks[0], "a cup", position=position, seed=3, settings=SETTINGS)
    place = 3 if position is None else position
    assert [layer.name for layer in edited.stack.layers].index("a cup") == place
    rest = [row for row in range(4) if row != place]
    for row, old in zip(rest, made.stacks[0].layers, strict=True):
        assert torch.equal(edited.stack.layers[row].rgba, old.rgba)
    for t, z in made.trajectory.latents.items():
        assert torch.equal(edited.trajectory.latents[t][:, rest], z[:, :3])
    assert edited.stack.layers[place].alpha.std() > 0.001
    assert edited.context_maps is not None and edited.context_maps.shape[0] == 3


def test_a_layer_is_added_to_a_lone_picture(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    stack = LayerStack(width=64, height=64, layers=made.stacks[0].layers[:1])
    edited = add_layer(tiny_dreamlayer, stack_trajectory(tiny_dreamlayer, stack, TIMES), stack, "a cup", settings=SETTINGS)
    assert torch.equal(edited.stack.background.rgba, stack.background.rgba) and len(edited.stack.layers) == 2
    assert edited.harmonized is not None


# ---- amodal completion


def test_completion_draws_the_unknown_cells_alone(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    change = LayerChange(layer=0, op=LayerEdit(dx=16))
    moved = edit_layers(tiny_dreamlayer, made.trajectory, made.stacks[0], [change])
    done = complete_layer(tiny_dreamlayer, moved, 0, settings=SETTINGS)
    assert not done.unseen.any() and moved.unseen[0, :, :4].all()
    old, new = moved.stack.background, done.stack.background
    assert torch.equal(new.color[:, :, 20:], old.color[:, :, 20:]) and bool((new.alpha == 1).all())
    assert not torch.allclose(new.color[:, :, :16], old.color[:, :, :16], atol=1e-2)
    for t, z in moved.trajectory.latents.items():
        assert torch.equal(done.trajectory.latents[t][:, 0, :, :, 4:], z[:, 0, :, :, 4:])
        assert torch.equal(done.trajectory.latents[t][:, 1:3], z[:, 1:3])
    assert not torch.equal(done.trajectory.latents[FINAL][:, 0, :, :, :4], moved.trajectory.latents[FINAL][:, 0, :, :, :4])
    assert done.stack.layers[1] is moved.stack.layers[1]


@pytest.mark.parametrize("change", [{"visible": False}, {"delete": True}])
def test_a_background_is_completed_without_foregrounds(
    tiny_dreamlayer: DreamLayer, made: LayeredResult, change: dict[str, bool]
) -> None:
    changes = [LayerChange(layer=0, op=LayerEdit(dx=16)), *(LayerChange(layer=layer, **change) for layer in (1, 2))]
    moved = edit_layers(tiny_dreamlayer, made.trajectory, made.stacks[0], changes)
    done = complete_layer(tiny_dreamlayer, moved, 0, settings=SETTINGS)
    assert not done.unseen.any() and len(done.stack.layers) == len(moved.stack.layers)
    assert torch.equal(done.stack.background.color[:, :, 20:], moved.stack.background.color[:, :, 20:])
    assert not torch.allclose(done.stack.background.color[:, :, :16], moved.stack.background.color[:, :, :16], atol=1e-2)
    for t, z in moved.trajectory.latents.items():
        assert done.trajectory.latents[t].shape == z.shape
        assert torch.equal(done.trajectory.latents[t][:, 0, :, :, 4:], z[:, 0, :, :, 4:])
        assert torch.equal(done.trajectory.latents[t][:, 1:-1], z[:, 1:-1])


def test_a_cut_off_object_is_completed_and_a_whole_one_is_not(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 24:40, :12] = 1  # cut by the left edge
    cut = made.stacks[0].with_layer(1, alpha=alpha)
    whole = made.stacks[0].with_layer(1, alpha=alpha.roll(20, -1))
    steps = list[Step]()
    for stack, completed in ((cut, True), (whole, False)):
        moved = edit_layers(tiny_dreamlayer, made.trajectory, stack, [LayerChange(layer=1, op=LayerEdit(dx=16))])
        steps.clear()
        done = complete_layer(tiny_dreamlayer, moved, 1, settings=SETTINGS, on_step=steps.append)
        assert (len(steps) > 0) is completed and (done is moved) is not completed
    moved = edit_layers(tiny_dreamlayer, made.trajectory, cut, [LayerChange(layer=1, op=LayerEdit(dx=16))])
    done = complete_layer(tiny_dreamlayer, moved, 1, settings=SETTINGS)
    assert torch.equal(done.alphas[0, :, :, 20:], moved.alphas[0, :, :, 20:])
    assert torch.equal(done.alphas[0], done.stack.layers[1].alpha) and done.alphas[0, :, :, :16].std() > 0


def test_what_others_had_covered_is_completed_where_asked(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    covered = torch.zeros(16, 16, dtype=torch.bool)
    covered[4:8, 4:8] = True
    plain = edit_layers(tiny_dreamlayer, made.trajectory, made.stacks[0], [])
    done = complete_layer(tiny_dreamlayer, plain, 0, covered=covered, settings=SETTINGS)
    changed = (done.stack.background.color != plain.stack.background.color).any(0)
    assert bool(changed[16:32, 16:32].any()) and int(changed.sum()) == int(changed[12:36, 12:36].sum())
    assert complete_layer(tiny_dreamlayer, plain, 0, settings=SETTINGS) is plain


# ---- what is refused


def test_impossible_requests_are_refused_before_the_first_step(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    stack, path, steps = made.stacks[0], made.trajectory, list[Step]()

    def regenerate(layer: int = 1, path: Trajectory = path, stack: LayerStack = stack, settings: RunSettings = SETTINGS) -> None:
        regenerate_layer(tiny_dreamlayer, path, stack, layer, seed=1, settings=settings, on_step=steps.append)

    with pytest.raises(InputError, match="layer 3 of a stack of 3"):
        regenerate(3)
    with pytest.raises(InputError, match="trajectory of harmonisation alone"):
        regenerate(path=path.between(HarmonizationConfig()))
    with pytest.raises(InputError, match="at timestep 801"):
        regenerate(settings=replace(FLAT, sampling=SamplingConfig(steps=5)))
    with pytest.raises(InputError, match="3 views"):
        regenerate(settings=replace(SETTINGS, views=3))
    with pytest.raises(InputError, match="'screen'"):
        regenerate(stack=stack.with_layer(2, blend_mode="screen"))
    with pytest.raises(InputError, match="without visible foregrounds"):
        regenerate(0, stack=stack.with_layer(1, visible=False).with_layer(2, visible=False))
    with pytest.raises(InputError, match=r"position 4 for a new layer; give 1 .* to 3"):
        add_layer(tiny_dreamlayer, path, stack, "a cup", position=4, settings=SETTINGS)
    assert steps == []
