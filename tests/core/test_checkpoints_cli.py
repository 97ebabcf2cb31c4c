"""A checkpoint in one file through the commands, and a stack that was made with one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dreamlayer_core.formats import load_stack

from .command_line import Run
from .tiny import tiny_tokenizer
from .tiny_checkpoints import save_checkpoint, save_decoder, tiny_base

QUICK = ("--views", "1", "--device", "cpu")
PROMPTS = ("--background", "grass", "--foreground", "a ball")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny_tokenizer(folder / "tokenizer")
    save_decoder(folder / "decoder.safetensors")
    save_checkpoint(tiny_base("SDXL").checkpoint(), folder / "sdxl.safetensors")
    torch.save(tiny_base("SD1").checkpoint(), folder / "sd1.ckpt")
    return folder


def _options(files: Path) -> list[str | Path]:
    return ["--layer-decoder", files / "decoder.safetensors", "--tokenizer", files / "tokenizer", "--size", "64x64"]


def test_a_stack_remembers_what_its_checkpoint_was_read_with(files: Path, tmp_path: Path) -> None:
    out, edited = tmp_path / "made", tmp_path / "edited"
    report = Run(tmp_path, "generate", *PROMPTS, "--model", files / "sdxl.safetensors", *_options(files), "--prediction", "v_prediction",
                 "--precision", "bf16", "--steps", "10", *QUICK, "--out", out, "--json").json()
    noted = {"layer_decoder": str(files / "decoder.safetensors"), "tokenizer": str(files / "tokenizer"), "prediction": "v_prediction"}
    assert report["settings"].items() >= {**noted, "precision": "bf16", "model": str(files / "sdxl.safetensors")}.items()
    again = Run(tmp_path, "edit", out, "--layer", "1", "--move", "8,0", *QUICK, "--out", edited, "--json").json()
    assert again["settings"].items() >= {**noted, "precision": "bf16"}.items()
    assert load_stack(edited).width == 64


def test_a_pickled_checkpoint_needs_leave_every_time(files: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "made", [*_options(files), "--steps", "10", *QUICK]
    Run(tmp_path, "generate", *PROMPTS, "--model", files / "sd1.ckpt", *options, "--out", out).assert_fails(
        1, "sd1.ckpt", "pickled", "--allow-pickle")
    assert Run(tmp_path, "generate", *PROMPTS, "--model", files / "sd1.ckpt", *options, "--allow-pickle", "--out", out).code == 0
    assert "allow_pickle" not in (out / "stack.json").read_text()
    edit = ["edit", out, "--layer", "1", "--move", "8,0", *QUICK, "--out", tmp_path / "edited"]
    Run(tmp_path, *edit).assert_fails(1, "pickled", "--allow-pickle")
    assert Run(tmp_path, *edit, "--allow-pickle").code == 0


def test_an_edit_by_another_model_takes_its_decoder_and_tokenizer(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    sdxl = ["--model", files / "sdxl.safetensors"]
    assert Run(tmp_path, "generate", *PROMPTS, *sdxl, *_options(files), "--steps", "10", *QUICK, "--out", out).code == 0
    edit = ["edit", out, "--layer", "1", "--move", "8,0", "--from-pixels", *sdxl, *QUICK, "--out", tmp_path / "edited"]
    Run(tmp_path, *edit).assert_fails(1, "--layer-decoder")
    assert Run(tmp_path, *edit, *_options(files)[:4]).code == 0


def test_a_checkpoint_says_what_it_lacks(files: Path, tmp_path: Path) -> None:
    Run(tmp_path, "generate", *PROMPTS, "--model", files / "sdxl.safetensors", *QUICK, "--out", tmp_path / "x").assert_fails(
        1, "sdxl.safetensors", "no transparent decoder", "--layer-decoder")
