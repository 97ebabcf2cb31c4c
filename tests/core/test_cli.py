"""The command line, on the tiny model: results, and one clear line for everything that can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dreamlayer_core.cli import app
from dreamlayer_core.cli.progress import StageProgress
from dreamlayer_core.cli.request import DEMO, parse_layer_seeds, parse_size
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import load_stack
from dreamlayer_core.weights import save_adapter

from .command_line import Run
from .tiny import sd15_shaped_unet, tiny_adapter

LAYERS = ("--background", "a green meadow", "--foreground", "a red ball", "--foreground", "a blue cube")
QUICK = ("--steps", "6", "--views", "1")


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], object]], Path]:
    """A copy of the tiny model in which one file is changed."""

    def make(name: str, change: Callable[[Path], object]) -> Path:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "models" / "broken"))
        change(folder / name)
        return folder

    return make


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def poison(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda key: tensors[key].numel())
    tensors[name].view(-1)[7] = torch.nan
    save_file(tensors, path, {"format": "pt"})


def transparent(path: Path) -> None:
    """A decoder whose alpha (channel 0) is nothing but its bias, below zero."""
    tensors = load_file(path)
    tensors["conv_out.weight"][0], tensors["conv_out.bias"][0] = 0, -1
    save_file(tensors, path, {"format": "pt"})


def empty_zip(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 a pickle in a zip")


def test_layers_that_come_out_empty_are_told(tiny_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    transparent(model / "layer_decoder.safetensors")
    run = Run(tmp_path, "generate", "--background", "grass", "--foreground", "a red ball", "--model", model, *QUICK, "--out", tmp_path / "made")
    assert run.code == 0
    assert run.err.splitlines()[0] == "layer 1 (a red ball) came out empty; another --seed may help"


def test_generate_writes_all_files_and_prints_one_json_object(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    run = Run(tmp_path, "generate", *LAYERS, "--model", tiny_folder, "--seed", "5", "--layer-seed", "2=9", *QUICK,
              "--size", "72x56", "--global", "a ball and a cube", "--out", out, "--json")  # fmt: skip
    report = run.json()
    assert run.err == ""
    assert {Path(path).name for path in report["files"].values()} == {
        "stack.json", "composite.png", "harmonized.png", "overview.png", "stack.psd", "stack.ora",
        "trajectory.safetensors"}  # fmt: skip
    assert all(Path(path).is_file() for path in [*report["files"].values(), *report["layers"]])
    document = json.loads((out / "stack.json").read_text())
    assert document["size"] == {"width": 72, "height": 56}
    assert [layer["prompt"] for layer in document["layers"]] == ["a green meadow", "a red ball", "a blue cube"]
    assert [layer["seed"] for layer in document["layers"]] == [5, 5, 9]
    assert document["settings"] == report["settings"] and document["timings"] == report["timings"]
    assert {"load", "encode", "sample", "decode", "harmonize", "total"} <= report["timings"].keys()
    assert 50 < report["timings"]["peak_memory_mb"] < 20_000
    assert len(load_stack(out).layers) == 3


def test_prompts_may_be_empty(tiny_folder: Path, tmp_path: Path) -> None:
    empty = ("--background", "", "--foreground", "")
    Run(tmp_path, "generate", *empty, "--model", tiny_folder, *QUICK, "--no-harmonize", "--json", "--out", tmp_path / "made").json()
    assert [layer.prompt for layer in load_stack(tmp_path / "made").layers] == ["", ""]


def test_switches_reach_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    base = ("generate", *LAYERS, "--model", tiny_folder, *QUICK, "--no-harmonize", "--json", "--out")
    full = Run(tmp_path, *base, tmp_path / "full").json()
    bare = Run(tmp_path, *base, tmp_path / "bare", "--no-caca", "--no-lssa").json()
    free = Run(tmp_path, *base, tmp_path / "free", "--adapter", "none").json()
    assert "harmonized" not in full["files"]
    assert [full["settings"][name] for name in ("caca", "lssa", "harmonize")] == [True, True, False]
    assert [bare["settings"][name] for name in ("caca", "lssa")] == [False, False]
    assert (full["settings"]["adapter"], free["settings"]["adapter"]) == ("the model's own", "none")
    pictures = [(tmp_path / name / "composite.png").read_bytes() for name in ("full", "bare", "free")]
    assert len(set(pictures)) == 3


def test_demo_is_repeatable_and_replaces_only_what_it_made(tiny_folder: Path, tmp_path: Path) -> None:
    line = ("demo", "--model", tiny_folder, "--steps", "6", "--out", tmp_path / "demo")
    first = Run(tmp_path, *line)
    assert first.code == 0, first.err
    assert first.out == "" and "overview.png" in first.err
    picture = (tmp_path / "demo" / "harmonized.png").read_bytes()
    Run(tmp_path, *line).assert_fails(1, "already exists")
    assert Run(tmp_path, *line, "--overwrite").code == 0
    assert (tmp_path / "demo" / "harmonized.png").read_bytes() == picture
    assert len(load_stack(tmp_path / "demo").layers) == 1 + len(DEMO.foregrounds) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "--background", "a meadow"), ("--foreground",)),
        (("generate", "--foreground", "a ball"), ("--background",)),
        (("generate", "--background", ""), ("--foreground",)),
        (("generate", "--background", "", "--plan", "plan.json"), ("--plan", "one of them")),
        (("generate", "--background", "\udcff\udcfe", "--foreground", "a ball"), (r"'\udcff\udcfe'", "UTF-8")),
        (("generate", "--background", "a meadow", *("--foreground", "a ball") * 40), ("40", "16")),
        (("generate", *LAYERS, "--size", "0"), ("'0'", "128x128")),
        (("generate", *LAYERS, "--size", "-5x64"), ("-5x64",)),
        (("generate", *LAYERS, "--steps", "0"), ("0 steps",)),
        (("generate", *LAYERS, "--steps", "many"), ("--steps", "integer")),
        (("generate", *LAYERS, "--cfg", "nan"), ("nan",)),
        (("generate", *LAYERS, "--layer-seed", "one"), ("'one'", "1=42")),
        (("generate", *LAYERS, "--mystery"), ("--mystery",)),
        (("generat",), ("generat", "Did you mean")),
        (("scenes", "--count", "0"), ("0 sample scenes",)),
        (("scenes", "--size", "8x8"), ("8x8", "32")),
        (("scenes", "--foregrounds", "13"), ("13", "12")),
        (("scenes", "--split", "both"), ("both",)),
        (("train", "vae", "--data", "d", "--out", "o", "--steps", "0"), ("steps 0",)),
        (("train", "vae", "--data", "d", "--out", "o", "--foregrounds", "2"), ("--foregrounds", "adapter")),
        (("train", "all", "--data", "d", "--out", "o"), ("all",)),
        (("evaluate", "scenes", "--samples", "0"), ("--samples",)),
        (("evaluate",), ("command",)),
    ],
)
def test_usage_errors_are_one_line_and_code_2(
    arguments: Sequence[str], words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Run(tmp_path, *arguments).assert_fails(2, *words)


@pytest.mark.parametrize("device", ["meta", "nowhere"])
def test_devices_that_hold_no_values_are_refused(device: str, tiny_folder: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, "generate", *LAYERS, "--model", tiny_folder, "--device", device, "--out", tmp_path / "made")
    run.assert_fails(2, repr(device), "give cpu or auto")


@pytest.mark.parametrize("size", ["0x0", "100000x100000", "64x15"])
def test_impossible_sizes_are_refused_before_sampling(size: str, tiny_folder: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, "generate", *LAYERS, "--model", tiny_folder, "--size", size, "--out", tmp_path / "made")
    run.assert_fails(2, size, "4096")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", truncate, ("unet",)),
        ("unet/diffusion_pytorch_model.safetensors", poison, ("unet", "NaN")),
        ("vae/diffusion_pytorch_model.safetensors", Path.unlink, ("vae",)),
        ("text_encoder/model.safetensors", poison, ("text_encoder", "NaN")),
        ("layer_decoder.safetensors", truncate, ("layer_decoder", "truncated")),
        ("layer_decoder.safetensors", Path.unlink, ("layer_decoder",)),
        ("adapter.safetensors", truncate, ("adapter", "truncated")),
        ("adapter.safetensors", empty_zip, ("adapter", "never opened")),
        ("tokenizer", shutil.rmtree, ("tokenizer",)),
    ],
)
def test_damaged_models_are_named(
    name: str, change: Callable[[Path], object], words: Sequence[str], tmp_path: Path,
    broken: Callable[[str, Callable[[Path], object]], Path],
) -> None:  # fmt: skip
    folder = broken(name, change)
    run = Run(tmp_path, "generate", *LAYERS, "--model", folder, *QUICK, "--out", tmp_path / "made")
    run.assert_fails(1, *words)


def test_files_of_another_kind_or_family_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_adapter(tiny_adapter(sd15_shaped_unet(), context_features=64), foreign)
    line = ("generate", *LAYERS, "--model", tiny_folder, "--out", tmp_path / "made", "--adapter")
    Run(tmp_path, *line, foreign).assert_fails(1, "foreign.safetensors")
    Run(tmp_path, *line, tiny_folder / "layer_decoder.safetensors").assert_fails(1, "a transparent decoder", "adapter")
    Run(tmp_path, *line, tmp_path / "nowhere.safetensors").assert_fails(1, "nowhere.safetensors", "no such file")
    Run(tmp_path, "generate", *LAYERS, "--model", tmp_path / "nowhere").assert_fails(1, "nowhere", "no such model")


def test_unusable_output_is_refused_before_the_model_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    line = ("generate", *LAYERS, "--model", tmp_path / "no-model", "--out")
    Run(tmp_path, *line, tmp_path / "file").assert_fails(1, "is a file")
    Run(tmp_path, *line, tmp_path / "file" / "below").assert_fails(1, "cannot be written")
    Run(tmp_path, *line, tmp_path / "full").assert_fails(1, "already exists")
    Run(tmp_path, *line, tmp_path / "full", "--overwrite").assert_fails(1, "only a saved stack is overwritten")
    assert (tmp_path / "full" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    Run(tmp_path, "generate", *LAYERS, "--out", locked / "made").assert_fails(1, "cannot be written")


@pytest.mark.parametrize("stage", ["layers", "harmonize"])
def test_ctrl_c_leaves_nothing_behind(
    stage: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # A job in the background of a shell is started with SIGINT ignored: what Ctrl-C does is tested there as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    steps = list[int]()

    def interrupt(_: StageProgress, step: Any) -> None:
        steps.append(step.index)
        if step.stage == stage and step.index == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StageProgress, "on_step", interrupt)
    run = Run(tmp_path, "generate", *LAYERS, "--model", tiny_folder, "--steps", "12", "--views", "1", "--out", tmp_path / "made")
    assert run.code == 130 and run.out == "" and run.new == []
    assert run.err.strip() == "stopped: nothing is left half written"
    assert steps[-1] == 1


@pytest.mark.parametrize("start", ["runpy.run_module('dreamlayer_core', run_name='__main__')", "dreamlayer_core.__main__.main()"])
def test_ctrl_c_while_modules_are_imported_is_one_line(start: str) -> None:
    code = f"""
import runpy, signal, sys, dreamlayer_core.__main__

class Interrupt:
    def find_spec(self, name, *_):
        if name == "typer.core":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
{start}"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped: nothing is left half written\n")


def test_flatten_merges_a_saved_stack(tiny_folder: Path, tmp_path: Path) -> None:
    made, flat = tmp_path / "made", tmp_path / "flat.png"
    assert Run(tmp_path, "generate", *LAYERS, "--model", tiny_folder, *QUICK, "--no-harmonize", "--out", made).code == 0
    report = Run(tmp_path, "flatten", made, "--out", flat, "--json").json()
    assert report == {"file": str(flat), "width": 64, "height": 64}
    composite, merged = (load_picture(path) for path in (made / "composite.png", flat))
    assert int((composite - merged).abs().max()) <= 2  # two roundings to eight bits
    Run(tmp_path, "flatten", made, "--out", flat).assert_fails(1, "exists", "--overwrite")
    assert Run(tmp_path, "flatten", made / "stack.ora", "--out", flat, "--overwrite").code == 0
    Run(tmp_path, "flatten", tmp_path / "nothing", "--out", tmp_path / "new.png").assert_fails(1, "nothing")
    Run(tmp_path, "flatten", made, "--out", flat / "below.png").assert_fails(1, "below.png")


def load_picture(path: Path) -> torch.Tensor:
    from PIL import Image  # noqa: PLC0415 - for this one comparison

    with Image.open(path) as image:
        values = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return values.to(torch.int16)


def test_scenes_are_written_as_stacks_with_a_sheet(tmp_path: Path) -> None:
    line = ("scenes", "--count", "2", "--size", "64x48", "--seed", "7", "--foregrounds", "2", "--out", tmp_path / "s")
    report = Run(tmp_path, *line, "--json").json()
    assert Path(report["sheet"]).stat().st_size > 1000
    stacks = [load_stack(path) for path in report["stacks"]]
    assert [Path(path).name for path in report["stacks"]] == ["scene-7", "scene-8"]
    assert all((stack.width, stack.height, len(stack.layers)) == (64, 48, 3) for stack in stacks)
    assert all(layer.box for stack in stacks for layer in stack.layers)
    Run(tmp_path, *line).assert_fails(1, "already exists")
    assert Run(tmp_path, *line, "--overwrite").code == 0


def test_training_and_evaluation_say_what_they_miss(tmp_path: Path) -> None:
    line = ("train", "base", "--data", tmp_path / "data", "--out", tmp_path / "out")
    Run(tmp_path, *line).assert_fails(2, "--model")
    Run(tmp_path, "train", "vae", *line[2:]).assert_fails(2, "dreamlayer scenes --cache")
    Run(tmp_path, "train", "vae", *line[2:], "--model", tmp_path / "no").assert_fails(2, f"--model {tmp_path / 'no'}", "export folder")
    (tmp_path / "damaged" / "vae").mkdir(parents=True)
    Run(tmp_path, "train", "vae", *line[2:], "--model", tmp_path / "damaged").assert_fails(1, "damaged/vae", "export it again")
    Run(tmp_path, "evaluate", "scenes", "--model", tmp_path / "no", "--out", tmp_path / "out").assert_fails(1)


def test_help_shows_every_command_and_no_command_is_help() -> None:
    shown = CliRunner().invoke(app, []).stdout
    assert CliRunner().invoke(app, ["--help"]).stdout == shown
    assert all(name in shown for name in ("generate", "demo", "flatten", "scenes", "train", "evaluate"))


def test_the_module_runs_and_help_does_not_wait_for_torch() -> None:
    code = "import sys, dreamlayer_core.cli; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    line = [sys.executable, "-m", "dreamlayer_core", "generate", "--background", "x"]
    failed = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.startswith("error: ")


@pytest.mark.parametrize("text", ["", "64", "64x", "x64", "64x64x64", "6.5x64", "64 x -1", "9999999999x1"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_sizes_and_layer_seeds() -> None:
    assert parse_size("512x768") == parse_size(" 512 X 768 ") == parse_size("512×768") == (512, 768)
    assert parse_layer_seeds(["0=1", "3=-7"]) == {0: 1, 3: -7}
    with pytest.raises(InputError, match="LAYER=SEED"):
        parse_layer_seeds(["3"])
