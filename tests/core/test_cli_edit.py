"""`edit`, `regenerate` and `add` on the tiny model: results, and one clear line for everything that can go wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore

from dreamlayer_core.cli.edit_words import parse_edit
from dreamlayer_core.cli.generation import generate_stack
from dreamlayer_core.cli.request import GenerateRequest, parse_layer_prompts
from dreamlayer_core.editing import LayerChange
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import load_stack, load_trajectory

from .command_line import Run

QUICK = ("--views", "1")


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stacks") / "made"
    generate_stack(GenerateRequest(
        background="a green meadow", foregrounds=("a red ball", "a blue cube"), whole="a ball and a cube", negative="blur",
        model=str(tiny_folder), seed=5, steps=6, views=1, device="cpu", out=out))
    return out


def _picture(path: Path) -> bytes:
    from PIL import Image  # noqa: PLC0415 - for these comparisons

    with Image.open(path) as image:
        return image.tobytes()


def test_an_edit_writes_a_folder_like_generates(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited"
    report = Run(tmp_path, "edit", made, "--layer", "2", "--move", "-8,4", "--flip", "h", "--edit", "1: scale 1.5 rotate 15",
                 *QUICK, "--out", out, "--json").json()
    assert {Path(path).name for path in report["files"].values()} == {
        "stack.json", "composite.png", "harmonized.png", "overview.png", "stack.psd", "stack.ora", "trajectory.safetensors"}
    assert report["settings"]["edits"] == ["2: move -8,4 flip h", "1: scale 1.5 rotate 15"]
    assert (report["settings"]["steps"], report["settings"]["negative"]) == (6, "blur")
    before, after = load_stack(made), load_stack(out)
    assert torch.equal(after.background.rgba, before.background.rgba)
    assert [layer.prompt for layer in after.layers] == [layer.prompt for layer in before.layers]
    assert not torch.equal(after.layers[2].rgba, before.layers[2].rgba)
    assert _picture(out / "harmonized.png") != _picture(made / "harmonized.png")


def test_without_an_edit_the_harmonized_picture_is_nearly_the_same(made: Path, tmp_path: Path) -> None:
    """Only the layers' alphas have been rounded to eight bits, which random weights make much of."""
    assert Run(tmp_path, "edit", made, *QUICK, "--out", tmp_path / "e").code == 0
    pair = zip(_picture(made / "harmonized.png"), _picture(tmp_path / "e" / "harmonized.png"), strict=True)
    differences = [abs(one - two) for one, two in pair]
    assert sum(differences) / len(differences) < 4


def test_a_second_edit_goes_on_from_the_first_and_may_replace_it(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "e"
    assert Run(tmp_path, "edit", made, "--layer", "2", "--to-position", "1", *QUICK, "--no-harmonize", "--out", out).code == 0
    assert [layer.name for layer in load_stack(out).layers] == ["background", "a blue cube", "a red ball"]
    Run(tmp_path, "edit", out, "--layer", "1", "--hide", *QUICK, "--out", out).assert_fails(1, "already exists")
    report = Run(tmp_path, "edit", out, "--layer", "1", "--hide", *QUICK, "--out", out, "--overwrite", "--json").json()
    assert report["settings"]["edits"] == ["2: to 1", "1: hide"]
    stack, stored = load_stack(out), load_trajectory(out)
    assert not stack.layers[1].visible and stored is not None
    original = load_trajectory(made)
    assert original is not None
    assert all(torch.equal(z[:, [0, 2, 1, 3]], original.trajectory.latents[t]) for t, z in stored.trajectory.latents.items())


def test_regenerated_and_added_layers_leave_the_others_alone(made: Path, tmp_path: Path) -> None:
    before = load_stack(made)
    assert Run(tmp_path, "regenerate", made, "--layer", "1", "--prompt", "a cup", *QUICK, "--out", tmp_path / "r").code == 0
    assert (tmp_path / "r" / "harmonized.png").is_file()
    after = load_stack(tmp_path / "r")
    assert torch.equal(after.layers[0].rgba, before.layers[0].rgba) and torch.equal(after.layers[2].rgba, before.layers[2].rgba)
    assert (after.layers[1].name, after.layers[1].prompt, after.layers[1].seed) == ("a cup", "a cup", 5)
    assert not torch.equal(after.layers[1].rgba, before.layers[1].rgba)
    line = ("add", made, "--prompt", "a vase", "--position", "1", "--seed", "7", "--no-harmonize", *QUICK)
    assert Run(tmp_path, *line, "--out", tmp_path / "a").code == 0
    added = load_stack(tmp_path / "a")
    assert [layer.name for layer in added.layers] == ["background", "a vase", "a red ball", "a blue cube"]
    assert all(torch.equal(added.layers[new].rgba, before.layers[old].rgba) for new, old in ((0, 0), (2, 1), (3, 2)))


@pytest.mark.parametrize("name", ["stack.psd", "stack.ora"])
def test_a_users_own_file_is_edited_by_its_pixels(made: Path, tiny_folder: Path, tmp_path: Path, name: str) -> None:
    mine = Path(shutil.copy(made / name, tmp_path / name))
    line = (mine, "--model", tiny_folder, "--steps", "6", "--layer-prompt", "0=a meadow", *QUICK)
    run = Run(tmp_path, "edit", *line, "--layer", "1", "--move", "9,0", "--complete", "--out", tmp_path / "e")
    assert run.code == 0 and "no trajectory" in run.err
    edited = load_stack(tmp_path / "e")
    assert [layer.prompt for layer in edited.layers] == ["a meadow", "a red ball", "a blue cube"]
    stored = load_trajectory(tmp_path / "e")
    assert stored is not None and len(stored.trajectory.latents) == 7
    assert Run(tmp_path, "regenerate", *line, "--layer", "2", "--seed", "4", "--no-harmonize", "--out", tmp_path / "r").code == 0
    assert torch.equal(load_stack(tmp_path / "r").layers[1].rgba, load_stack(made).layers[1].rgba)


def test_stacks_of_another_model_are_refused_and_can_go_by_their_pixels(made: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    weights = next((other / "unet").glob("*.safetensors"))
    tensors = {name: tensor * 1.01 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    line = ("edit", made, "--model", other, *QUICK, "--out", tmp_path / "e")
    Run(tmp_path, *line).assert_fails(2, "another model", "--from-pixels")
    assert Run(tmp_path, *line, "--from-pixels").code == 0


def test_what_cannot_be_edited_is_told_in_one_line(made: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "e", *QUICK)
    Run(tmp_path, "edit", made, "--layer", "7", "--hide", *out).assert_fails(2, "layer 7 of a stack of 3")
    Run(tmp_path, "edit", made, "--move", "4,0", *out).assert_fails(2, "--layer")
    Run(tmp_path, "edit", made, "--layer", "1", *out).assert_fails(2, "nothing to do")
    Run(tmp_path, "edit", made, "--edit", "1 move 4,0", *out).assert_fails(2, "colon")
    Run(tmp_path, "edit", made, "--layer", "1", "--move", "500,0", *out).assert_fails(2, "leave the canvas")
    Run(tmp_path, "edit", made, "--steps", "9", *out).assert_fails(2, "9 steps", "sampled in 6")
    Run(tmp_path, "edit", made, "--layer-prompt", "9=x", *out).assert_fails(2, "layer 9")
    Run(tmp_path, "edit", tmp_path / "nothing", *out).assert_fails(1, "nothing")
    Run(tmp_path, "regenerate", made, "--layer", "1", *out).assert_fails(2, "--prompt", "--seed")
    Run(tmp_path, "regenerate", made, "--layer", "4", "--seed", "1", *out).assert_fails(2, "layer 4 of a stack of 3")
    Run(tmp_path, "add", made, "--prompt", "x", "--position", "9", *out).assert_fails(2, "position 9")


def test_damaged_trajectories_are_told_and_can_be_left(made: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(made, tmp_path / "mine"))
    path = mine / "trajectory.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    line = ("edit", mine, *QUICK, "--no-harmonize", "--out", tmp_path / "e")
    Run(tmp_path, *line).assert_fails(1, "truncated", "--from-pixels")
    assert Run(tmp_path, *line, "--from-pixels").code == 0
    shutil.copy(made / "stack.json", tmp_path / "e" / "stack.json")
    path.unlink()
    Run(tmp_path, "edit", mine, "--out", tmp_path / "f").assert_fails(1, "trajectory.safetensors")


@pytest.mark.parametrize(("text", "change"), [
    ("2: move 40,0 flip h", LayerChange(layer=2, op=LayerEdit(dx=40, flip_horizontal=True))),
    ("0:scale 1.5", LayerChange(layer=0, op=LayerEdit(scale_x=1.5, scale_y=1.5))),
    (" 1 : scale 2,0.5 rotate -15", LayerChange(layer=1, op=LayerEdit(scale_x=2, scale_y=0.5, degrees=-15))),
    ("3: flip hv hide opacity 0.5 to 1", LayerChange(
        layer=3, op=LayerEdit(flip_horizontal=True, flip_vertical=True), visible=False, opacity=0.5, position=1)),
    ("1: delete", LayerChange(layer=1, delete=True)),
    ("1: show", LayerChange(layer=1, visible=True)),
    ("1:", LayerChange(layer=1)),
])
def test_edits_are_read(text: str, change: LayerChange) -> None:
    assert parse_edit(text) == change


@pytest.mark.parametrize("text", [
    "", "move 4,0", "x: hide", "-1: hide", "1: wave", "1: move", "1: move 4", "1: move 4,5,6", "1: move a,b", "1: flip x",
    "1: scale 0", "1: scale nan", "1: rotate 1,2", "1: opacity 2", "1: opacity x", "1: to up", "1: hide show", "1: hide hide"])
def test_edits_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="got"):
        parse_edit(text)


def test_layer_prompts() -> None:
    assert parse_layer_prompts(["0=a hill", " 2 = a = b "]) == {0: "a hill", 2: "a = b"}
    for text in ("a hill", "x=1", "=a"):
        with pytest.raises(InputError, match="LAYER=TEXT"):
            parse_layer_prompts([text])
