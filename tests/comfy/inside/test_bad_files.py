"""Adapter and decoder files that are none, are damaged, or are of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def told(core):
    """As pytest.raises, for the pack's own errors."""
    return lambda *parts: pytest.raises(core("errors").WeightsError, match="(?s)" + ".*".join(parts))


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
    (lambda whole: b"", "not a safetensors file .0 bytes"),
    (lambda whole: whole[:1000], "truncated within its header, at 1000 bytes; fetch it again"),
    (lambda whole: whole[:-1000], "truncated: .* of .* bytes; fetch it again"),
    (lambda whole: b"PK\x03\x04" + whole, "a zip archive or pickled PyTorch checkpoint, which is never opened"),
    (lambda whole: b"<!DOCTYPE html>", "a web page in place of the file"),
    (lambda whole: (2**60).to_bytes(8, "little") + whole[8:], "truncated within its header"),
])
def test_damaged_files(graph, module, model_file, told, node, name, damage, said):
    broken = model_file(damage(embedded(module, name).read_bytes()))
    with told("broken.safetensors: ", said):
        graph.call(f"Load{node}", **{f"{node.lower()}_name": broken})


@pytest.mark.parametrize(("node", "other", "said"), [
    ("Adapter", "layer_decoder", "this is a transparent decoder; give a DreamLayer adapter"),
    ("Decoder", "adapter", "this is a DreamLayer adapter; give a transparent decoder")])
def test_files_of_another_kind(graph, module, model_file, told, node, other, said):
    name = model_file(embedded(module, other).read_bytes())
    with told(said):
        graph.call(f"Load{node}", **{f"{node.lower()}_name": name})


def test_an_adapter_with_nan(graph, core, model_file, tmp_path, told):
    name = model_file(b"")
    weights = core("weights").Adapter(**{**vars(graph.adapter.weights), "layer_assign": torch.full((9, 128), torch.nan)})
    tensors = {key: value.contiguous() for key, value in weights.tensors().items()}
    settings = core("safetensors_files")
    metadata = {"format": "dreamlayer-adapter", "format_version": settings.FORMAT_VERSION, "base_family": "dreamlayer-embedded",
                "settings": settings.json.dumps(vars(weights.settings))}
    save_file(tensors, tmp_path / name, metadata)
    with told("broken.safetensors: .*layer_assign"):
        graph.call("LoadAdapter", adapter_name=name)
