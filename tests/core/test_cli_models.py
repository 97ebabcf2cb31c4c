"""`dreamlayer models` against a stand-in for the hub; as a process of its own where the environment or a signal is what matters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from huggingface_hub import constants

from dreamlayer_core.model_registry import MODELS

from .command_line import Run
from .hub_server import Hosted, Hub, hub

TOKENIZER = "openai/clip-vit-large-patch14"
NAMES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    for name in ("HF_TOKEN", "DREAMLAYER_MODELS", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name in NAMES:
            server.files[f"{TOKENIZER}/{name}"] = Hosted(b"{}" if name.endswith("json") else b"#version: 0.2\n")
        yield server


def process(home: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "DREAMLAYER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "dreamlayer_core", "models", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | {"DREAMLAYER_MODELS": str(home / "models"), "HF_HOME": str(home / "hub")} | variables)


def test_the_list_says_what_there_is_and_what_is_there(stand_in: Hub, tmp_path: Path) -> None:
    listed = Run(tmp_path, "models", "list", "--folder", tmp_path, "--json").json()
    assert listed["folder"] == str(tmp_path)
    assert [model["name"] for model in listed["models"]] == [model.name for model in MODELS]
    assert not any(model["there"] for model in listed["models"])
    assert listed["models"][0]["files"] == [{
        "path": str(tmp_path / "layer_model/layer_sd15_vae_transparent_decoder.safetensors"), "bytes": 208_266_320,
        "sha256": "6df4712dfbb3783231b22f869a5da5cbfea782ebb05f782bd9e8744bfb0cdf03"}]
    (tmp_path / "layer_model").mkdir()
    (tmp_path / "layer_model/layer_sd15_joint.safetensors").touch()
    again = Run(tmp_path, "models", "list", "--folder", tmp_path, "--json").json()
    assert [model["name"] for model in again["models"] if model["there"]] == ["sd15-joint"]
    table = Run(tmp_path, "models", "list", "--folder", tmp_path)
    assert table.code == 0 and all(model.name in table.out for model in MODELS) and "CreativeML-OpenRAIL-M" in table.out
    assert str(tmp_path) in table.err and stand_in.asked == []


def test_pulling_shows_the_licence_first_and_then_the_folder(stand_in: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path, "models", "pull", "clip-tokenizer", "--folder", tmp_path)
    assert run.code == 0 and run.out == ""
    first, last = run.err.splitlines()
    assert first == f"clip-tokenizer: {TOKENIZER}, licence MIT, https://huggingface.co/{TOKENIZER}"
    assert last == f"{tmp_path}: 4 fetched, 0 already there"
    report = Run(tmp_path, "models", "pull", "clip-tokenizer", "--folder", tmp_path, "--json").json()
    assert report == {"files": [str(tmp_path / "tokenizers/clip-vit-large-patch14" / name) for name in NAMES], "fetched": []}


def test_unknown_names_are_refused_before_anything_is_fetched(stand_in: Hub, tmp_path: Path) -> None:
    Run(tmp_path, "models", "pull", "clip-tokenizer", "sd99", "--folder", tmp_path).assert_fails(2, "got the model 'sd99'; give one of")
    assert stand_in.asked == []


def test_a_file_that_the_hub_does_not_have_is_one_line(stand_in: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path, "models", "pull", "sd15-joint", "--folder", tmp_path)
    assert (run.code, run.new) == (1, []) and run.err.splitlines()[0].endswith("https://huggingface.co/LayerDiffusion/layerdiffusion-v1")
    assert "CreativeML-OpenRAIL-M" in run.err and "error: " in run.err.splitlines()[1] and len(run.err.splitlines()) == 2


def test_verifying_names_every_wrong_file(stand_in: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "layer_model"
    folder.mkdir()
    assert "nothing there to check" in Run(tmp_path, "models", "verify", "--folder", tmp_path).err
    (folder / "layer_sd15_joint.safetensors").write_bytes(b"<html>")
    (folder / "vae_transparent_decoder.safetensors").write_bytes(b"GGUF")
    run = Run(tmp_path, "models", "verify", "--folder", tmp_path)
    assert (run.code, run.out) == (1, "") and len(run.err.splitlines()) == 2
    assert "layer_sd15_joint.safetensors: this is a web page in place of the file; fetch it again; expected LayerDiffuse's joint" in run.err
    assert "vae_transparent_decoder.safetensors: this is a GGUF file; give a transparent decoder in a safetensors file" in run.err
    Run(tmp_path, "models", "verify", "sd15-encoder", "--folder", tmp_path).assert_fails(
        1, "layer_sd15_vae_transparent_encoder.safetensors: not there; fetch it with: dreamlayer models pull sd15-encoder --folder")
    assert stand_in.asked == []


def test_verifying_finds_whole_files_right(stand_in: Hub, tmp_path: Path) -> None:
    Run(tmp_path, "models", "pull", "clip-tokenizer", "--folder", tmp_path)
    run = Run(tmp_path, "models", "verify", "--folder", tmp_path)
    assert run.code == 0 and run.err == f"{tmp_path}: 1 checked, all right\n"
    (tmp_path / "tokenizers/clip-vit-large-patch14/vocab.json").write_text("{")
    assert Run(tmp_path, "models", "verify", "--folder", tmp_path, "--json").code == 1


def test_the_variables_of_the_hub_hold_in_a_process_of_its_own(stand_in: Hub, tmp_path: Path) -> None:
    offline = process(tmp_path / "offline", "pull", "clip-tokenizer", HF_ENDPOINT=stand_in.url, HF_HUB_OFFLINE="1")
    online = process(tmp_path, "pull", "clip-tokenizer", HF_ENDPOINT=stand_in.url, HF_TOKEN="hf_secret")
    out, err = offline.communicate(timeout=60)
    assert (offline.returncode, out) == (1, "") and "HF_HUB_OFFLINE is set; unset it, or bring the file from http" in err, err
    out, err = online.communicate(timeout=60)
    assert (online.returncode, out) == (0, "") and f"{tmp_path / 'models'}: 4 fetched" in err, err
    assert len(stand_in.gets) == 4 and {asked.token for asked in stand_in.asked} == {"Bearer hf_secret"}


def test_ctrl_c_in_a_download_leaves_nothing_under_the_files_name(
    stand_in: Hub, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # A job in the background of a shell is started with SIGINT ignored, and so is what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stand_in.files[f"{TOKENIZER}/vocab.json"] = Hosted(b" " * 2**20 + b"{}", stalls=True)
    running = process(tmp_path, "pull", "clip-tokenizer", HF_ENDPOINT=stand_in.url)
    assert stand_in.stalled.wait(60)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "") and "Traceback" not in err, err
    assert "what has arrived is kept; go on with: dreamlayer models pull clip-tokenizer" in err
    assert all(path.suffix == ".part" for path in (tmp_path / "models").rglob("*") if path.is_file())


def test_help_needs_neither_the_hub_nor_torch() -> None:
    code = "import sys; from dreamlayer_core.cli import app; from dreamlayer_core.cli.models import models_app; " \
           "print([name for name in ('huggingface_hub', 'torch') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
