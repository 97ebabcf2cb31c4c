"""The finished model in half precision, as it ships in the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import OutputError, WeightsError
from ..formats.atomic import staged_folder
from ..model_files import ADAPTER, LAYER_DECODER, read_config, require_model_folder

__all__ = ["MOST_BYTES", "export_model"]

MOST_BYTES = 40_000_000
_FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_FILES = (LAYER_DECODER, ADAPTER, "classifier.safetensors")


def _halve(source: Path, target: Path) -> None:
    with safe_open(source, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    halved = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    if broken := [name for name, t in halved.items() if t.is_floating_point() and not torch.isfinite(t).all()]:
        raise WeightsError(f"{source}: {broken[0]} is not finite in half precision; train on, or with a lower rate")
    save_file(halved, target, metadata)


def _without_place(source: Path, target: Path) -> None:
    """diffusers notes in a config where it was loaded from: nobody else has that folder."""
    config = {key: value for key, value in read_config(source).items() if key != "_name_or_path"}
    target.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".safetensors":
        _halve(source, target)
    else:
        (_without_place if source.name == "config.json" else shutil.copyfile)(source, target)


def export_model(source: Path, target: Path, *, overwrite: bool = False) -> int:
    """Copy a model folder to ``target`` with all weights in fp16; returns its size in bytes.

    ``target`` appears whole or not at all. Raises OutputError where it exists or is no model folder to replace, and for
    a model larger than the package may hold; WeightsError for one that does not survive half precision.
    """
    source = require_model_folder(source)
    found = [f for folder in _FOLDERS for f in sorted((source / folder).iterdir()) if f.is_file()]
    found += [source / name for name in _FILES if (source / name).is_file()]
    written = (*_FILES, *(f"{folder}/*" for folder in _FOLDERS))
    with staged_folder(target, overwrite=overwrite, mark=LAYER_DECODER, written=written) as partial:
        for file in found:
            _copy(file, partial / file.relative_to(source))
        size = sum(f.stat().st_size for f in partial.rglob("*") if f.is_file())
        if size > MOST_BYTES:
            raise OutputError(f"the model takes {size} bytes in half precision; at most {MOST_BYTES} may ship")
    return size
