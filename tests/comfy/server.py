"""A real ComfyUI server with this pack in it, in folders of its own: the user's ComfyUI is only read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

PACK = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_FOLDERS = ("custom_nodes", "input", "models", "output", "temp", "user/default")
_START_S = 400  # on a busy machine; seconds otherwise
# What the frontend would ask a new user, and the widgets that Create Layered Image needs.
_SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": True, "Comfy.Workflow.ShowMissingNodesWarning": True}


@dataclass(frozen=True, kw_only=True)
class ComfyServer:
    """A running server; `folder` holds its input, output, temp and user folders."""

    folder: Path
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def get(self, path: str, **query: str) -> bytes:
        with urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=60) as answer:
            return answer.read()

    def get_json(self, path: str, **query: str) -> Any:
        return json.loads(self.get(path, **query))

    def post(self, path: str, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        with urlopen(Request(self.url + path, body, {"Content-Type": "application/json"}), timeout=60):
            pass


@contextmanager
def comfy_server(comfyui: Path, python: Path, folder: Path) -> Iterator[ComfyServer]:
    """Starts ComfyUI on a free port, waits until it answers, and stops it."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / "dreamlayer").symlink_to(PACK, target_is_directory=True)
    (folder / "user/default/comfy.settings.json").write_text(json.dumps(_SETTINGS), encoding="utf-8")
    server = ComfyServer(folder=folder, port=_free_port(), log=folder / "server.log")
    command = [
        python, comfyui / "main.py", "--cpu", "--listen", HOST, "--port", server.port, "--base-directory", folder,
        "--database-url", f"sqlite:///{folder / 'comfyui.db'}", "--disable-auto-launch", "--disable-api-nodes"]
    # The embedded model is tiny: more threads only wait for each other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with server.log.open("wb") as log, subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment) as process:
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return one.getsockname()[1]


def _wait_for(server: ComfyServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.get("/system_stats")
            return
        except OSError:  # not yet
            time.sleep(0.5)
    tail = server.log.read_text(encoding="utf-8", errors="replace")[-4000:]
    pytest.fail(f"ComfyUI did not start within {_START_S} s, its exit code is {process.poll()}; its log ends with\n{tail}")
