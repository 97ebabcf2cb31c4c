"""Fetching by huggingface_hub itself from a stand-in for the hub: whole, broken off, wrong, refused, slow; and what is on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from dreamlayer_core import model_store
from dreamlayer_core.errors import InputError, OutputError, WeightsError
from dreamlayer_core.file_kinds import expect
from dreamlayer_core.model_registry import (
    MODELS,
    Model,
    ModelFile,
    fetch_command,
    find_model,
    models_folder,
    places,
    require_model,
)
from dreamlayer_core.model_store import check_file, pull_model
from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig

from .hub_server import Hosted, Hub, hub

CONTENT = save({name: tensor.contiguous() for name, tensor in TransparentDecoder(
    TransparentDecoderConfig(widths=(8, 8, 16, 24), latent_block=3)).half().state_dict().items()})
SUM = hashlib.sha256(CONTENT).hexdigest()
MODEL = replace(find_model("sd15-decoder"), files=(
    ModelFile(name="decoder.safetensors", size=len(CONTENT), sha256=SUM, kind="layerdiffuse-decoder"),))
UNKNOWN = replace(MODEL, files=(replace(MODEL.files[0], size=None, sha256=None),))
DOCS = Path(__file__).parents[2] / "docs"
HOSTED = f"{MODEL.repository}/decoder.safetensors"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Hub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DREAMLAYER_MODELS", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is lost when it breaks off
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its attempts
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.files[HOSTED] = Hosted(CONTENT, elsewhere=True)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def all_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fails(model: Model, folder: Path, *words: str, error: type[Exception] = WeightsError) -> str:
    """The one line of an error that has these words; nothing got the file's name."""
    with pytest.raises(error) as caught:
        pull_model(model, folder)
    message = str(caught.value)
    assert not [word for word in words if word not in message] and "\n" not in message, message
    assert str(folder / "layer_model/decoder.safetensors") in message
    assert not (folder / "layer_model/decoder.safetensors").is_file()
    return message


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_file_comes_whole_and_in_its_place(stand_in: Hub, folder: Path, elsewhere: bool) -> None:
    stand_in.files[HOSTED].elsewhere = elsewhere
    told: list[tuple[str, int, int]] = []
    (path,) = pull_model(MODEL, folder, on_bytes=lambda *what: told.append(what))
    assert path == folder / "layer_model/decoder.safetensors" and path.read_bytes() == CONTENT
    assert all_files(folder) == ["layer_model/decoder.safetensors"]
    assert told[0] == ("decoder.safetensors", 0, len(CONTENT)) and told[-1] == ("decoder.safetensors", len(CONTENT), len(CONTENT))
    assert stand_in.gets[0].host == ("localhost" if elsewhere else "127.0.0.1")
    asked = len(stand_in.asked)
    assert pull_model(MODEL, folder) == [] and len(stand_in.asked) == asked


def test_it_is_as_readable_as_any_other_file(stand_in: Hub, folder: Path) -> None:
    (path,) = pull_model(MODEL, folder)
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_what_breaks_off_goes_on_at_once(stand_in: Hub, folder: Path) -> None:
    stand_in.files[HOSTED].cuts = [5000, 1500]
    (path,) = pull_model(MODEL, folder)
    assert path.read_bytes() == CONTENT
    assert [asked.range for asked in stand_in.gets] == [None, "bytes=5000-", "bytes=6000-"]


def test_what_breaks_off_for_good_goes_on_the_next_time(stand_in: Hub, folder: Path) -> None:
    stand_in.files[HOSTED].cuts = [5000, *(0 for _ in range(20))]
    fails(MODEL, folder, "does not answer or broke off", f"try again: dreamlayer models pull sd15-decoder --folder {folder}")
    (part,) = all_files(folder)
    assert part.startswith("layer_model/.decoder.safetensors.") and part.endswith(".part")
    stand_in.files[HOSTED].cuts, before = [], len(stand_in.gets)
    told: list[int] = []
    pull_model(MODEL, folder, on_bytes=lambda name, done, total: told.append(done))
    assert [asked.range for asked in stand_in.gets[before:]] == ["bytes=5000-"] and told[0] == 5000
    assert all_files(folder) == ["layer_model/decoder.safetensors"]


def test_a_server_without_ranges_sends_it_all_again(stand_in: Hub, folder: Path) -> None:
    stand_in.files[HOSTED].cuts, stand_in.files[HOSTED].ranges = [5000], False
    assert pull_model(MODEL, folder)[0].read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_gone_on_with(stand_in: Hub, folder: Path) -> None:
    stand_in.files[HOSTED] = Hosted(b"x" * 9999, cuts=[5000, *(0 for _ in range(20))])
    fails(UNKNOWN, folder)
    stand_in.files[HOSTED], before = Hosted(CONTENT), len(stand_in.gets)
    pull_model(UNKNOWN, folder)
    assert [asked.range for asked in stand_in.gets[before:]] == [None]
    assert all_files(folder) == ["layer_model/decoder.safetensors"]


@pytest.mark.parametrize(("model", "change", "words"), [
    (MODEL, {"sent": CONTENT[:-1] + b"?"}, ("what was fetched has the checksum", f"the hub promised {SUM}", "fetch it again")),
    (MODEL, {"sent": CONTENT[:-1] + b"?", "etag": "weak"}, ("what was fetched has sha256", f"expected {SUM}", "fetch it again")),
    (MODEL, {"content": CONTENT[:-1] + b"?"}, ("the hub has another file, sha256", f"expected {SUM}", "check HF_ENDPOINT")),
    (MODEL, {"content": CONTENT + b"?", "etag": "weak"}, ("a damaged safetensors file",)),
    (UNKNOWN, {"sent": CONTENT[:-1] + b"?", "elsewhere": False}, ("what was fetched has the checksum", "the hub promised")),
    (UNKNOWN, {"content": b"<html>Sign in</html>", "etag": "weak"}, ("this is a web page in place of the file", "fetch it again")),
    (UNKNOWN, {"content": save({"emb_params": torch.zeros(1, 768)})}, ("this is a textual inversion for SD1", "give a transparent decoder")),
])
def test_a_wrong_file_never_gets_the_name(stand_in: Hub, folder: Path, model: Model, change: dict[str, object], words: tuple[str, ...]) -> None:
    for name, value in change.items():
        setattr(stand_in.files[HOSTED], name, value)
    fails(model, folder, *words)
    assert not folder.exists() or all_files(folder) == []


@pytest.mark.parametrize(("change", "words"), [
    ({"status": 404}, ("the hub has no such file", "404")),
    ({"status": 403}, ("the hub refuses access; set HF_TOKEN", "403")),
    ({"status": 500}, ("the hub fails; try again later", "500")),
    ({"token": "hf_secret"}, ("the hub refuses access; set HF_TOKEN", "401")),
    ({"etag": ""}, ("as no hub does; check HF_ENDPOINT",)),
])
def test_refusals_name_the_file_and_the_next_step(stand_in: Hub, folder: Path, change: dict[str, object], words: tuple[str, ...]) -> None:
    for name, value in change.items():
        setattr(stand_in.files[HOSTED], name, value)
    fails(MODEL, folder, *words)
    assert not folder.exists() and stand_in.gets == []


def test_a_file_that_the_hub_does_not_have(stand_in: Hub, folder: Path) -> None:
    stand_in.files.clear()
    fails(MODEL, folder, "the hub has no such file", "decoder.safetensors of LayerDiffusion/layerdiffusion-v1")


def test_the_token_goes_to_the_hub_alone(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    stand_in.files[HOSTED].token = "hf_secret"
    pull_model(MODEL, folder)
    assert [(asked.method, asked.host, asked.token) for asked in stand_in.asked] == [
        ("HEAD", "127.0.0.1", "Bearer hf_secret"), ("GET", "localhost", None)]


def test_the_token_is_in_no_message(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    stand_in.files[HOSTED].token = "hf_right"
    assert "hf_" not in fails(MODEL, folder)


def test_a_slow_hub_is_told(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    stand_in.files[HOSTED].stalls = True
    fails(MODEL, folder, "does not answer or broke off")


def test_nothing_answers(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    fails(MODEL, folder, "http://127.0.0.1:1 does not answer", "try again: dreamlayer models pull")


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://x", "http://", "http://x:port", "http://[x"])
def test_an_endpoint_that_is_no_address(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InputError, match="got HF_ENDPOINT .*; give an address such as"):
        pull_model(MODEL, folder)


def test_offline_nothing_is_asked(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails(MODEL, folder, "HF_HUB_OFFLINE is set", f"bring the file from {stand_in.url}/{MODEL.repository}/resolve/main/decoder.safetensors")
    assert stand_in.asked == []
    path = folder / "layer_model/decoder.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert pull_model(MODEL, folder) == [], "what is there needs no hub"


def test_an_unwritable_folder_is_told(stand_in: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")
    fails(MODEL, tmp_path / "models", "cannot be written", "choose a folder with --folder", error=OutputError)
    if os.geteuid() and sys.platform != "win32":
        (tmp_path / "locked").mkdir(mode=0o500)
        fails(MODEL, tmp_path / "locked", "cannot be written", error=OutputError)


def test_a_full_disk_is_told_before_anything_is_fetched(stand_in: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(model_store.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=f"has 10 bytes left, {len(CONTENT)} are needed; make room"):
        pull_model(MODEL, folder)
    assert stand_in.gets == []


def test_stopping_keeps_what_has_arrived_under_another_name(stand_in: Hub, folder: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_model(MODEL, folder, on_bytes=stop)
    (part,) = all_files(folder)
    assert part.endswith(".part") and not part.endswith(".safetensors")
    assert pull_model(MODEL, folder)[0].read_bytes() == CONTENT


def test_a_file_of_the_users_is_not_replaced(stand_in: Hub, folder: Path) -> None:
    path = folder / "layer_model/decoder.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(WeightsError, match=f"sha256 .*, expected {SUM}; remove the file and fetch it again"):
        pull_model(MODEL, folder)
    assert path.read_bytes() == CONTENT[:-1] + b"?" and stand_in.asked == []


@pytest.mark.parametrize(("content", "said"), [
    (CONTENT[:-9], "a truncated safetensors file"), (b"", "an empty file"), (CONTENT[:-1] + b"?", "expected " + SUM)],
    ids=["truncated", "empty", "changed"])
def test_files_that_are_there_are_checked(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    check_file(MODEL.files[0], tmp_path / "x")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        check_file(MODEL.files[0], tmp_path / "x")


def test_the_tokenizer_comes_as_a_folder(stand_in: Hub, folder: Path) -> None:
    model = find_model("clip-tokenizer")
    for file in model.files:
        stand_in.files[f"{model.repository}/{file.name}"] = Hosted(b"{}" if file.name.endswith(".json") else b"#version: 0.2\n")
    with pytest.raises(WeightsError, match=f"no vocab.json .* in {folder}/tokenizers/clip-vit-large-patch14; fetch it with: dreamlayer models "
                                           f"pull clip-tokenizer --folder {folder}$"):
        require_model("clip-tokenizer", folder)
    assert len(pull_model(model, folder)) == 4
    assert require_model("clip-tokenizer", folder) == folder / "tokenizers/clip-vit-large-patch14"
    (folder / "tokenizers/clip-vit-large-patch14/vocab.json").write_text("{")
    with pytest.raises(WeightsError, match="vocab.json: no JSON"):
        check_file(model.files[0], folder / "tokenizers/clip-vit-large-patch14/vocab.json")


def test_the_models_folder_is_the_option_the_variable_or_among_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DREAMLAYER_MODELS", raising=False)
    if sys.platform == "linux":
        assert models_folder() == tmp_path / "data/dreamlayer/models"
    monkeypatch.setenv("DREAMLAYER_MODELS", str(tmp_path / "mine"))
    assert models_folder() == tmp_path / "mine"
    assert models_folder(tmp_path / "ComfyUI/models") == models_folder(tmp_path / "ComfyUI/models/layer_model")
    ((_, path),) = places(find_model("sd15-joint"), tmp_path / "ComfyUI/models/layer_model")
    assert path == tmp_path / "ComfyUI/models/layer_model/layer_sd15_joint.safetensors"
    assert fetch_command(MODEL) == "dreamlayer models pull sd15-decoder"
    assert fetch_command(MODEL, tmp_path) == f"dreamlayer models pull sd15-decoder --folder {tmp_path}"


def test_a_missing_file_names_itself_its_place_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        require_model("sd15-encoder", tmp_path)
    assert str(caught.value) == (
        f"no layer_sd15_vae_transparent_encoder.safetensors (LayerDiffuse's transparent encoder for SD1.5) in {tmp_path}/layer_model; "
        f"fetch it with: dreamlayer models pull sd15-encoder --folder {tmp_path}")


@pytest.mark.parametrize(("folder", "said"), [
    ("layer_model", "fetch it with: dreamlayer models pull sd15-joint --folder {0}; expected"),
    ("elsewhere", "fetch it with: dreamlayer models pull sd15-joint, which puts it into {1}/layer_model; expected")])
def test_a_loader_that_misses_a_published_file_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, said: str
) -> None:
    monkeypatch.setenv("DREAMLAYER_MODELS", str(tmp_path / "mine"))
    with pytest.raises(WeightsError) as caught:
        expect(tmp_path / folder / "layer_sd15_joint.safetensors", "layerdiffuse-joint")
    assert f"no such file; {said.format(tmp_path, tmp_path / 'mine')}" in str(caught.value)


def test_models_go_by_their_own_names_and_by_those_of_their_files() -> None:
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    assert find_model("layer_sd15_joint.safetensors") is find_model("sd15-joint")
    with pytest.raises(InputError, match="got the model 'x'; give one of sd15-decoder, "):
        find_model("x")


def test_the_registry_holds_what_is_published() -> None:
    files = [file for model in MODELS for file in model.files]
    assert len({file.name for file in files}) == len(files)
    assert all(file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32 for file in files)
    assert {model.licence for model in MODELS if model.folder == "layer_model"} == {"CreativeML-OpenRAIL-M"}
    for model in MODELS:
        (size,) = (file.size for file in model.files) if len(model.files) == 1 else (None,)
        assert size is None or round(size / 1e6) == model.megabytes


def test_the_pages_say_what_the_registry_says() -> None:
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    rows = {name: row for name, *row in re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)}
    assert rows.keys() == {model.name for model in MODELS}
    for model in MODELS:
        names, size, total = rows[model.name]
        file = model.files[0]
        assert names == ", ".join(f"`{one.name}`" for one in model.files)
        assert size == (f"{file.size:,}" if file.size else f"about {model.megabytes} MB" if model.megabytes else "–")
        assert total == (f"`{file.sha256[:8]}…{file.sha256[-8:]}`" if file.sha256 else "not known")


def test_the_models_of_the_workflow_example_are_in_the_registry() -> None:
    (example,) = re.findall(r"### Models in workflows.*?```json\n(.*?)```", (DOCS / "comfyui.md").read_text(encoding="utf-8"), re.DOTALL)
    node = json.loads(example)
    (named,) = node["properties"]["models"]
    model = find_model(named["name"])
    assert node["widgets_values"] == [named["name"]] and named["directory"] == model.folder and named["hash"] == model.files[0].sha256
    assert named["url"] == f"https://huggingface.co/{model.repository}/resolve/main/{named['name']}"
