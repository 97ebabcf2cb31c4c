"""ComfyUI runs in a Python of its own. These tests start it; what needs its modules is in ``inside``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import ComfyServer, comfy_server

collect_ignore = ["inside"]
_HINT = "install it with `comfy install`, or set COMFYUI_PATH to its folder"


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's folder: COMFYUI_PATH, or comfy-cli's default workspace."""
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    if not (folder / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {folder}; {_HINT}")
    return folder


@pytest.fixture(scope="session")
def comfy_python(comfyui: Path) -> Path:
    """The Python that has ComfyUI's requirements: COMFYUI_PYTHON, or that of a venv inside or beside ComfyUI."""
    places = [comfyui / ".venv", comfyui / "venv", comfyui.parent / ".venv", comfyui.parent / "venv"]
    named = os.environ.get("COMFYUI_PYTHON")
    for python in [Path(named)] if named else [place / "bin" / "python" for place in places]:
        if python.exists():
            return python
    pytest.skip(f"no Python for ComfyUI in {', '.join(map(str, places))}; set COMFYUI_PYTHON")


@pytest.fixture(scope="session")
def server(comfyui: Path, comfy_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for all tests of a session."""
    with comfy_server(comfyui, comfy_python, tmp_path_factory.mktemp("comfy") / "base") as one:
        yield one


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the screenshots go: DREAMLAYER_SCREENSHOTS, else a temporary folder."""
    folder = Path(os.environ.get("DREAMLAYER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
