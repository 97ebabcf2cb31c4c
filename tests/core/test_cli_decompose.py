"""`dreamlayer decompose`, on the tiny model: what it writes, and one clear line for everything that can go wrong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dreamlayer_core.cli.decomposition import parse_boxes, parse_mask_files
from dreamlayer_core.cli.progress import StageProgress
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import load_stack

from .command_line import Run

LAYERS = ("--background", "a green meadow", "--foreground", "a red ball", "--foreground", "a blue cube")
QUICK = ("--steps", "4", "--views", "1")  # the first step is above T_G


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.new("RGB", (72, 56), (90, 160, 220))
    image.paste((200, 30, 30), (20, 20, 44, 44))
    image.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_becomes_the_folder_that_generate_writes(picture: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    run = Run(tmp_path, "decompose", picture, *LAYERS, "--model", tiny_folder, *QUICK, "--out", out, "--json")
    report = run.json()
    assert run.err == ""
    assert {Path(path).name for path in report["files"].values()} == {
        "stack.json", "composite.png", "overview.png", "stack.psd", "stack.ora", "trajectory.safetensors"}  # fmt: skip
    assert all(Path(path).is_file() for path in [*report["files"].values(), *report["layers"]])
    document = json.loads((out / "stack.json").read_text())
    assert document["size"] == {"width": 72, "height": 56}
    assert [layer["prompt"] for layer in document["layers"]] == ["a green meadow", "a red ball", "a blue cube"]
    settings = document["settings"]
    assert settings["picture"] == "picture.png" and settings["picture_size"] == "72x56"
    assert (settings["method"], settings["masked"], settings["harmonize"]) == ("replay", True, False)
    assert 0 < settings["composite_psnr"] <= 60
    assert {"load", "encode", "invert", "sample", "decode", "total"} <= report["timings"].keys()
    assert len(load_stack(out).layers) == 3


def test_options_reach_the_run(picture: Path, tiny_folder: Path, tmp_path: Path) -> None:
    base = (picture, *LAYERS, "--model", tiny_folder, *QUICK, "--size", "72x56", "--json", "--out")
    lines = {"plain": (), "unmasked": ("--no-mask",), "exact": ("--method", "exact"), "guided": ("--inversion-cfg", "2"),
             "boxed": ("--box", "1=20,20,24,24", "--box", "1=0,0,8,8", "--steer", "override"), "free": ("--adapter", "none", "--no-trajectory")}
    reports = {name: Run(tmp_path, "decompose", *base, tmp_path / name, *options).json() for name, options in lines.items()}
    settings = {name: report["settings"] for name, report in reports.items()}
    assert settings["plain"]["size"] == "72x56" and settings["plain"]["adapter"] == "the model's own"
    assert settings["unmasked"]["masked"] is False and settings["exact"]["method"] == "exact"
    assert settings["guided"]["inversion_guidance"] == 2 and settings["free"]["adapter"] == "none"
    assert settings["boxed"]["boxes"] == {"1": [[20, 20, 24, 24], [0, 0, 8, 8]]}
    assert settings["boxed"]["steer"] == "override"
    assert [("trajectory" in reports[name]["files"]) for name in ("plain", "free")] == [True, False]
    pictures = {name: (tmp_path / name / "layers").glob("01*.png") for name in lines}
    assert len({next(paths).read_bytes() for paths in pictures.values()}) == len(lines)


def test_what_is_taken_from_the_picture(picture: Path, tiny_folder: Path, tmp_path: Path) -> None:
    base = (picture, *LAYERS, "--model", tiny_folder, *QUICK, "--size", "72x56", "--json", "--out")
    lines = {"all": (), "foregrounds": ("--fit", "foregrounds"), "alphas": ("--fit", "alphas"), "none": ("--fit", "none"),
             "free": ("--adapter", "none"), "boxed": ("--adapter", "none", "--box", "1=20,20,24,24")}
    reports = {name: Run(tmp_path, "decompose", *base, tmp_path / name, *options).json() for name, options in lines.items()}
    # Maps that nobody has learnt or steered cut nothing.
    assert {name: report["settings"]["fit"] for name, report in reports.items()} == {
        "all": {"confine": True, "colors": "all"}, "foregrounds": {"confine": True, "colors": "foregrounds"},
        "alphas": {"confine": True, "colors": "none"}, "none": None, "free": {"confine": False, "colors": "all"},
        "boxed": {"confine": True, "colors": "all"}}
    layers = {name: [path.read_bytes() for path in sorted((tmp_path / name / "layers").glob("*.png"))] for name in lines}
    assert len({b"".join(pictures) for pictures in layers.values()}) == len(lines)
    assert layers["alphas"][0] == layers["foregrounds"][0] == layers["none"][0] != layers["all"][0]
    assert layers["foregrounds"][1:] == layers["all"][1:]
    near = {name: report["settings"]["composite_psnr"] for name, report in reports.items()}
    assert near["all"] > near["foregrounds"] > near["alphas"] and near["all"] > 25


def test_masks_and_harmonisation(picture: Path, tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("L", (144, 112), 255).save(tmp_path / "mask.png")  # twice the picture's size, in its shape
    line = (picture, *LAYERS, "--model", tiny_folder, "--steps", "6", "--views", "1", "--out", tmp_path / "made")
    run = Run(tmp_path, "decompose", *line, "--mask", f"2={tmp_path / 'mask.png'}", "--harmonize")
    assert run.code == 0, run.err
    assert run.out == "" and "3 layers; look at" in run.err
    document = json.loads((tmp_path / "made" / "stack.json").read_text())
    assert document["settings"]["masks"] == {"2": "mask.png"}
    assert (tmp_path / "made" / "harmonized.png").is_file()
    Run(tmp_path, "decompose", *line).assert_fails(1, "already exists")


@pytest.mark.parametrize(("options", "words"), [
    (("--box", "1"), ("'1'", "1=20,30,64,48")), (("--box", "1=1,2,3"), ("LAYER=X,Y,WIDTH,HEIGHT",)),
    (("--box", "1=90,0,5,5"), ("90,0,5,5", "72x56")), (("--box", "0=1,1,5,5"), ("the background has no context map",)),
    (("--box", "3=1,1,5,5"), ("layer 3", "2 foregrounds")), (("--mask", "mask.png"), ("LAYER=FILE",)),
    (("--mask", "1=a.png", "--mask", "1=b.png"), ("two masks for layer 1",)),
    (("--method", "magic"), ("magic",)), (("--inversion-cfg", "-1"), ("-1",)), (("--steps", "0"), ("0 steps",)),
    (("--size", "72"), ("'72'",)), (("--steer", "pull"), ("pull",)), (("--box", "1=1,1,5,5", "--no-caca"), ("switch it on",)),
    (("--size", "40x40"), ("40x40", "72x56", "40x31")), (("--size", "8x6"), ("8x6", "16 to 4096"))])
def test_wrong_values_are_one_line_and_code_2(
    options: tuple[str, ...], words: tuple[str, ...], picture: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = (picture, *LAYERS, "--model", tiny_folder, *QUICK, "--out", tmp_path / "made")
    Run(tmp_path, "decompose", *line, *options).assert_fails(2, *words)


def test_a_box_and_a_mask_for_one_layer_are_refused(picture: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, "decompose", picture, *LAYERS, "--box", "1=1,1,5,5", "--mask", f"1={picture}", "--out", tmp_path / "made")
    run.assert_fails(2, "boxes and a mask for layer 1")


def test_a_mask_of_another_shape_is_refused(picture: Path, tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("L", (30, 30), 255).save(tmp_path / "mask.png")
    line = (picture, *LAYERS, "--model", tiny_folder, *QUICK, "--out", tmp_path / "made")
    Run(tmp_path, "decompose", *line, "--mask", f"1={tmp_path / 'mask.png'}").assert_fails(2, "30x30", "72x56")


def test_unreadable_pictures_are_named_before_the_model_is_looked_at(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:100])
    rest = (*LAYERS, "--model", tmp_path / "no-model", "--out", tmp_path / "made")
    Run(tmp_path, "decompose", tmp_path / "missing.png", *rest).assert_fails(1, "missing.png", "no such picture")
    Run(tmp_path, "decompose", tmp_path / "text.png", *rest).assert_fails(1, "text.png", "no picture")
    Run(tmp_path, "decompose", tmp_path / "cut.png", *rest).assert_fails(1, "cut.png", "truncated")
    Run(tmp_path, "decompose", tmp_path, *rest).assert_fails(1, "no such picture")
    Run(tmp_path, "decompose", picture, *rest, "--mask", f"1={tmp_path / 'nothing.png'}").assert_fails(1, "nothing.png", "no such mask")
    Run(tmp_path, "decompose", picture, *rest).assert_fails(1, "no-model", "no such model")
    Run(tmp_path, "decompose", picture, *rest[2:]).assert_fails(2, "--background")


def test_a_picture_smaller_than_any_canvas_says_how_to_go_on(tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (10, 8)).save(tmp_path / "small.png")
    line = (tmp_path / "small.png", *LAYERS, "--model", tiny_folder, *QUICK, "--out", tmp_path / "made")
    Run(tmp_path, "decompose", *line).assert_fails(2, "10x8", "16 to 4096")
    assert Run(tmp_path, "decompose", *line, "--size", "40x32").code == 0


@pytest.mark.parametrize("stage", ["invert", "layers"])
def test_ctrl_c_leaves_nothing_behind(
    stage: str, picture: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    # A job in the background of a shell is started with SIGINT ignored: what Ctrl-C does is tested there as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt(_: StageProgress, step: Any) -> None:
        if step.stage == stage and step.index == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StageProgress, "on_step", interrupt)
    run = Run(tmp_path, "decompose", picture, *LAYERS, "--model", tiny_folder, *QUICK, "--out", tmp_path / "made")
    assert run.code == 130 and run.out == "" and run.new == []
    assert run.err.strip() == "stopped: nothing is left half written"


def test_boxes_and_mask_files_are_read_by_layer() -> None:
    assert parse_boxes(["1=1,2,3,4", " 2 = -1.5, 0, 10 ,4.25", "1=5,6,7,8"]) == {
        1: [(1, 2, 3, 4), (5, 6, 7, 8)], 2: [(-1.5, 0, 10, 4.25)]}
    assert parse_mask_files(["1=a=b.png", "02=c.png"]) == {1: Path("a=b.png"), 2: Path("c.png")}
    for wrong in ("", "1", "=1,2,3,4", "1=1,2,3,x", "1=1,2,3,4,5", "1=1,2,3,inf"):
        with pytest.raises(InputError, match="give LAYER=X,Y,WIDTH,HEIGHT"):
            parse_boxes([wrong])
    for wrong in ("", "1", "1=", "one=a.png", "-1=a.png"):
        with pytest.raises(InputError, match="give LAYER=FILE"):
            parse_mask_files([wrong])
