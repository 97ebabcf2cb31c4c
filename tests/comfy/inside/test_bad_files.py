"""Adapter and decoder files that are none, are damaged, or are of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def model_file(tmp_path, monkeypatch) -> Callable[[bytes], str]:
    """model_file(content): a file where the loaders look, and its name."""
    for kind in ("dreamlayer", "layer_model"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors"}))
        monkeypatch.setattr(folder_paths, "filename_list_cache", {})

    def write(content: bytes) -> str:
        (tmp_path / "broken.safetensors").write_bytes(content)
        return "broken.safetensors"

    return write


def embedded(module, name: str) -> Path:
    return module("dreamlayer_core.model_files").EMBEDDED / f"{name}.safetensors"


@pytest.mark.parametrize(("node", "name"), [("Adapter", "adapter"), ("Decoder", "layer_decoder")])
@pytest.mark.parametrize(("damage", "said"), [
    (lambda whole: b"", "an empty file .0 bytes"),
    (lambda whole: whole[:1000], "truncated .* ends within its header, at 1000 bytes; fetch it again"),
    (lambda whole: whole[:-1000], "truncated .* promises .* bytes, it has .*; fetch it again"),
    (lambda whole: b"PK\x03\x04" + whole, "a zip archive, which is never opened"),
    (lambda whole: b"\x80\x02}q" + whole, "a pickled PyTorch checkpoint, which is never opened"),
    (lambda whole: b"GGUF" + whole, "a GGUF file; give .* in a safetensors file"),
    (lambda whole: b"<!DOCTYPE html>", "a web page in place of the file"),
    (lambda whole: (2**60).to_bytes(8, "little") + whole[8:], "truncated .* within its header"),
])
def test_damaged_files(graph, module, model_file, told, node, name, damage, said):
    broken = model_file(damage(embedded(module, name).read_bytes()))
    with told("broken.safetensors: ", said, error="WeightsError"):
        graph.call(f"Load{node}", **{f"{node.lower()}_name": broken})


@pytest.mark.parametrize(("node", "other", "said"), [
    ("Adapter", "layer_decoder", "this is a transparent decoder; give a DreamLayer adapter"),
    ("Decoder", "adapter", "this is a DreamLayer adapter; give a transparent decoder")])
def test_files_of_another_kind(graph, module, model_file, told, node, other, said):
    name = model_file(embedded(module, other).read_bytes())
    with told(said, error="WeightsError"):
        graph.call(f"Load{node}", **{f"{node.lower()}_name": name})


def test_an_adapter_with_nan(graph, core, model_file, tmp_path, told):
    name = model_file(b"")
    weights = core("weights").Adapter(**{**vars(graph.adapter.weights), "layer_assign": torch.full((9, 128), torch.nan)})
    tensors = {key: value.contiguous() for key, value in weights.tensors().items()}
    settings = core("safetensors_files")
    metadata = {"format": "dreamlayer-adapter", "format_version": settings.FORMAT_VERSION, "base_family": "dreamlayer-embedded",
                "settings": settings.json.dumps(vars(weights.settings))}
    save_file(tensors, tmp_path / name, metadata)
    with told("broken.safetensors: .*layer_assign", error="WeightsError"):
        graph.call("LoadAdapter", adapter_name=name)


def test_a_published_decoder_is_what_its_widget_and_folder_say(graph, module, core, model_file, tmp_path):
    """What ComfyUI's frontend needs to offer a download by `properties.models`: a combo of file names, and a known folder."""
    model = core("model_registry").find_model("sd15-decoder")
    name = model.files[0].name
    assert model.folder in folder_paths.folder_names_and_paths and folder_paths.folder_names_and_paths[model.folder][1] == {".safetensors"}

    def choices() -> list[str]:
        (widget,) = module("nodes.loaders").LoadDecoder.define_schema().inputs
        return list(widget.options)

    assert name not in choices(), "missing: the frontend offers it"
    model_file(b"")
    transparent = core("transparent")
    decoder = transparent.TransparentDecoder(transparent.TransparentDecoderConfig(widths=(8, 8, 16, 24), latent_block=3))
    save_file({key: value.half().contiguous() for key, value in decoder.state_dict().items()}, tmp_path / name)
    folder_paths.filename_list_cache.clear()
    assert name in choices()
    (loaded,) = graph.call("LoadDecoder", decoder_name=name)
    assert loaded.patcher.model.config == decoder.config
