"""`--effects`, `--move-effects` and `--residual` on the tiny model: what is saved, and what later edits make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from dreamlayer_core.cli.app import app
from dreamlayer_core.cli.decomposition import DecomposeRequest
from dreamlayer_core.cli.decomposition_run import decompose_picture
from dreamlayer_core.cli.generation import generate_stack
from dreamlayer_core.cli.request import GenerateRequest
from dreamlayer_core.composite import flatten
from dreamlayer_core.derived import is_derived, own_layers, plain_stack, take_off
from dreamlayer_core.effects import EFFECT_LAYERS, find_effects, with_effects
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import draw_overview, load_stack, load_trajectory, save_stack
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.residual import RESIDUAL_LAYER, with_residual

QUICK = ("--views", "1")
NAMES = ["background", "a red ball", "a blue cube"]
SIZE = 64


def _run(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout), result.stderr


def _refusal(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 2 and result.stdout == "", (result.stderr, result.exception)
    return result.stderr


def _png(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).reshape(*image.size[::-1], 3).int()


def _modes(stack: LayerStack) -> list[tuple[str, str]]:
    return [(layer.name, layer.blend_mode) for layer in stack.layers if is_derived(layer)]


def _own(stack: LayerStack) -> list[str]:
    return [stack.layers[index].name for index in own_layers(stack)]


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stacks") / "made"
    generate_stack(GenerateRequest(
        background="a green meadow", foregrounds=("a red ball", "a blue cube"), model=str(tiny_folder), seed=5, steps=6,
        views=1, device="cpu", effects=True, out=out))
    return out


def test_a_generated_stack_with_effects_flattens_to_the_harmonised_picture(made: Path) -> None:
    document = json.loads((made / "stack.json").read_text())
    assert document["settings"]["effects"] == "found" and document["settings"]["effects_psnr"] >= 40
    stack = load_stack(made)
    known = list(EFFECT_LAYERS.values())
    assert _own(stack) == NAMES and _modes(stack) and set(_modes(stack)) <= set(known)
    places = [index for index, layer in enumerate(stack.layers) if is_derived(layer)]
    below = [index for index in places if (stack.layers[index].name, stack.layers[index].blend_mode) in known[:2]]
    assert below == list(range(1, 1 + len(below))) and places[len(below) :] == list(range(len(below) + 3, len(stack.layers)))
    for name in ("composite.png", None):
        picture = _png(made / name) if name else (flatten(stack) * 255).round().int().permute(1, 2, 0)
        assert (picture - _png(made / "harmonized.png")).abs().max() <= 2
    assert [_modes(load_stack(made / name)) for name in ("stack.psd", "stack.ora")] == [_modes(stack)] * 2


def test_layers_of_an_edit_count_as_before_the_effects(made: Path, tmp_path: Path) -> None:
    """Stale effects are left out and said to be; the rows of the trajectory still belong to the layers."""
    report, told = _run("edit", made, "--layer", "2", "--hide", *QUICK, "--no-harmonize", "--out", tmp_path / "e")
    assert "effects layers" in told and "--effects" in told
    after, stored, before = load_stack(tmp_path / "e"), load_trajectory(tmp_path / "e"), load_trajectory(made)
    assert [layer.name for layer in after.layers] == NAMES and not after.layers[2].visible
    assert stored is not None and before is not None and not {"effects", "effects_psnr"} & report["settings"].keys()
    assert all(torch.equal(z, before.trajectory.latents[t]) for t, z in stored.trajectory.latents.items())


@pytest.mark.parametrize("source", ["", "stack.psd"])
def test_effects_are_found_anew_after_an_edit(made: Path, tiny_folder: Path, tmp_path: Path, source: str) -> None:
    line = ("edit", made / source if source else made, "--model", tiny_folder, "--steps", "6", "--layer", "1", "--move", "8,0")
    report, told = _run(*line, *QUICK, "--effects", "--out", tmp_path / "e")
    assert "effects layers" not in told and report["settings"]["effects_psnr"] >= 40
    stack = load_stack(tmp_path / "e")
    assert _own(stack) == NAMES and _modes(stack)
    assert (_png(tmp_path / "e" / "composite.png") - _png(tmp_path / "e" / "harmonized.png")).abs().max() <= 2
    again, _ = _run("edit", tmp_path / "e", "--layer", "2", "--to-position", "1", *QUICK, "--effects", "--out", tmp_path / "f")
    assert again["settings"]["edits"] == ["1: move 8,0", "2: to 1"]
    assert _own(load_stack(tmp_path / "f")) == [NAMES[0], NAMES[2], NAMES[1]]


@pytest.fixture
def plain(tmp_path: Path, tiny_folder: Path) -> Path:
    """A ball with a shadow on the ground, as a folder that a user has saved."""
    ball = torch.zeros(1, SIZE, SIZE)
    ball[:, 12:28, 12:28] = 1
    shade = torch.ones(3, SIZE, SIZE)
    shade[:, 24:36, 14:30] = 0.5
    ground = torch.full((3, SIZE, SIZE), 0.8)
    stack = LayerStack(width=SIZE, height=SIZE, layers=(
        Layer(name="background", prompt="a meadow", color=ground, alpha=torch.ones(1, SIZE, SIZE)),
        Layer(name="ball", prompt="a ball", color=torch.full((3, SIZE, SIZE), 0.3), alpha=ball)))
    picture = flatten(stack.with_layer(0, color=ground * shade))
    layered = with_residual(with_effects(stack, find_effects(stack, picture)), picture)
    return save_stack(layered, tmp_path / "mine", settings={"model": str(tiny_folder), "residual": True}, formats=("png",))


def test_effects_move_with_their_object_where_asked(plain: Path, tmp_path: Path) -> None:
    line = ("edit", plain, "--steps", "4", "--layer", "1", "--move", "20,16", *QUICK, "--no-harmonize", "--move-effects")
    report, told = _run(*line, "--out", tmp_path / "e")
    assert "residual layer" in told and report["settings"]["effects"] == "moved" and "residual" not in report["settings"]
    stack = load_stack(tmp_path / "e")
    assert RESIDUAL_LAYER not in [layer.name for layer in stack.layers] and _own(stack) == ["background", "ball"]
    picture = flatten(stack)[0]
    assert picture[30, 25] == pytest.approx(0.8, abs=0.02) and picture[48, 45] == pytest.approx(0.4, abs=0.03)
    assert picture[36, 40] == pytest.approx(0.3, abs=0.02)
    _run("edit", tmp_path / "e", "--steps", "4", "--layer", "1", "--delete", *QUICK, "--no-harmonize", "--move-effects",
         "--out", tmp_path / "f")
    gone = load_stack(tmp_path / "f")
    assert _own(gone) == ["background"] and (flatten(gone) - 0.8).abs().max() < 0.02


def test_regenerated_and_added_layers_get_effects(made: Path, tmp_path: Path) -> None:
    before = take_off(load_stack(made)).stack
    report, _ = _run("regenerate", made, "--layer", "1", "--seed", "9", *QUICK, "--effects", "--out", tmp_path / "r")
    after = load_stack(tmp_path / "r")
    assert report["settings"]["effects"] == "found" and _own(after) == NAMES and _modes(after)
    assert torch.equal(take_off(after).stack.layers[2].rgba, before.layers[2].rgba)
    report, told = _run("add", made, "--prompt", "a vase", *QUICK, "--effects", "--out", tmp_path / "a")
    added = load_stack(tmp_path / "a")
    assert "effects layers" not in told
    assert _own(added) == [*NAMES, "a vase"] and report["settings"]["effects_psnr"] >= 40
    assert all(torch.equal(one.rgba, other.rgba) for one, other in zip(take_off(added).stack.layers, before.layers, strict=False))


def test_a_decomposition_with_residual_is_the_picture_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (56, 72, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "picture.png")
    request = DecomposeRequest(
        image=tmp_path / "picture.png", background="a meadow", foregrounds=("a ball",), model=str(tiny_folder), steps=4, views=1,
        residual=True, device="cpu", out=tmp_path / "made")
    settings = decompose_picture(request)["settings"]
    assert isinstance(settings, dict) and settings["residual"] is True and settings["composite_psnr"] < 60
    for source in ("", "stack.psd", "stack.ora"):
        stack = load_stack(tmp_path / "made" / source)
        assert stack.layers[-1].name == RESIDUAL_LAYER and len(stack.layers) == 3
        assert torch.equal((flatten(stack) * 255).round().byte().permute(1, 2, 0), pixels)
    assert torch.equal(_png(tmp_path / "made" / "composite.png"), pixels.int())
    plain = decompose_picture(replace(request, residual=False, out=tmp_path / "plain"))["settings"]
    assert isinstance(plain, dict) and "residual" not in plain and len(load_stack(tmp_path / "plain").layers) == 2
    _, told = _run("edit", tmp_path / "made", "--layer", "1", "--move", "4,0", *QUICK, "--no-harmonize", "--out", tmp_path / "e")
    assert "residual layer" in told and len(load_stack(tmp_path / "e").layers) == 2


def test_maps_are_of_the_layers_that_have_prompts(plain: Path, tmp_path: Path) -> None:
    stack, own = load_stack(plain), take_off(load_stack(plain)).stack
    maps, picture = torch.rand(1, 5, 7), flatten(stack)
    save_stack(stack, tmp_path / "out", context_maps=maps, harmonized=picture, formats=())
    with pytest.raises(InputError, match=r"give \(1, h, w\), one per foreground that is no effect or residual"):
        save_stack(stack, tmp_path / "other", context_maps=torch.rand(len(stack.foregrounds), 5, 7))
    sheets = [draw_overview(stack, harmonized=picture, context_maps=one).tobytes() for one in (maps, maps, 1 - maps)]
    assert sheets[0] == sheets[1] != sheets[2]
    # The plain composite beside the harmonised picture has none of the light.
    assert torch.equal(flatten(plain_stack(stack)), flatten(own)) and not torch.equal(flatten(own), picture)


def test_a_layer_that_somebody_asked_for_is_no_residual() -> None:
    layer = Layer(name=RESIDUAL_LAYER, prompt="residual", color=torch.zeros(3, 4, 4), alpha=torch.ones(1, 4, 4))
    stack = LayerStack(width=4, height=4, layers=(layer, replace(layer, prompt="")))
    found = take_off(stack)
    assert found.residual and found.effects is None and [one.prompt for one in found.stack.layers] == ["residual"]


def test_what_has_no_effects_is_told_before_anything_is_sampled(made: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "e")
    for command in (("generate", "--background", "a", "--foreground", "b"), ("edit", made), ("add", made, "--prompt", "x")):
        assert "--no-harmonize" in _refusal(*command, "--effects", "--no-harmonize", *out)
    assert "give one of them" in _refusal("edit", made, "--effects", "--move-effects", *out)
    assert "background is hidden or transparent" in _refusal("edit", made, "--layer", "0", "--opacity", "0.5", "--effects", *out)
    bare = save_stack(take_off(load_stack(made)).stack, tmp_path / "bare", formats=("png",))
    assert "no effects layers that could move" in _refusal("edit", bare, "--layer", "1", "--hide", "--move-effects", *out)
    assert not (tmp_path / "e").exists()
