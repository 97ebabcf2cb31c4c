"""The pack's own tests inside ComfyUI, one run of pytest a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .reference import write_reference

_INSIDE = Path(__file__).parent / "inside"


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.safetensors"
    write_reference(path)
    return path


@pytest.mark.comfy
@pytest.mark.parametrize("name", sorted(path.name for path in _INSIDE.glob("test_*.py")))
def test_inside_comfyui(name: str, comfyui: Path, comfy_python: Path, reference: Path):
    command = [comfy_python, "-m", "pytest", "-q", "-c", _INSIDE / "pytest.ini", "--rootdir", _INSIDE,
               "--confcutdir", _INSIDE, _INSIDE / name]
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui), "DREAMLAYER_REFERENCE": str(reference)}
    run = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
