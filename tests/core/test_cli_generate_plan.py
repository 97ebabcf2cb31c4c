"""`dreamlayer generate --plan`: prompts, names and boxes of a plan reach the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dreamlayer_core.formats import load_stack

from .command_line import Run

QUICK = ("--steps", "10", "--views", "1", "--seed", "3", "--no-harmonize")
BALL: dict[str, Any] = {"name": "my ball", "prompt": "a red ball"}
CUBE: dict[str, Any] = {"name": "my cube", "prompt": "a blue cube"}


def plan_file(folder: Path, *layers: dict[str, Any]) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps({"version": 1, "background": "grass", "foregrounds": layers, "negative": "gray"}), encoding="utf-8")
    return path


@pytest.fixture
def generated(tiny_folder: Path, tmp_path: Path) -> Any:
    def run(out: str, *layers: dict[str, Any], arguments: tuple[str, ...] = ()) -> Run:
        return Run(tmp_path, "generate", "--plan", plan_file(tmp_path, *layers), "--model", tiny_folder, *QUICK, *arguments,
                   "--out", tmp_path / out, "--json")
    return run


def test_a_plan_says_what_the_layers_are(generated: Any, tmp_path: Path) -> None:
    settings = generated("made", BALL, CUBE).json()["settings"]
    stack = load_stack(tmp_path / "made")
    assert [(layer.name, layer.prompt) for layer in stack.layers] == [
        ("background", "grass"), ("my ball", "a red ball"), ("my cube", "a blue cube")]
    assert settings["negative"] == "gray" and settings["boxes"] == {}


def test_a_box_limits_the_context_map_of_its_layer(generated: Any, tmp_path: Path) -> None:
    generated("free", BALL, CUBE).json()
    left = [0.0, 0.0, 0.5, 1.0]
    assert generated("boxed", BALL, CUBE | {"box": left}).json()["settings"]["boxes"] == {"2": left}
    generated("everywhere", BALL, CUBE | {"box": [0.0, 0.0, 1.0, 1.0]}).json()
    free, boxed, everywhere = (
        load_file(tmp_path / name / "trajectory.safetensors")["latents"] for name in ("free", "boxed", "everywhere"))
    assert not free.equal(boxed)
    assert free.equal(everywhere)


def test_boxes_need_the_context_map(generated: Any) -> None:
    generated("made", BALL | {"box": [0.2, 0.2, 0.6, 0.6]}, arguments=("--no-caca",)).assert_fails(
        2, "boxes or masks", "switch it on")


def test_a_plan_and_prompts_besides_are_refused(generated: Any) -> None:
    generated("made", BALL, arguments=("--foreground", "a cube")).assert_fails(2, "--plan and prompts")
