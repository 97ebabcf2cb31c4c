"""The published files that `dreamlayer models` knows, and where they are on this machine. Nothing here fetches anything.

Sizes and sums are those that are publicly known; where none is, none stands here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError, WeightsError

__all__ = ["MODELS", "Model", "ModelFile", "fetch_command", "fetch_hint", "find_model", "models_folder", "places", "require_model"]

FOLDER_VARIABLE = "DREAMLAYER_MODELS"
_LAYER_MODELS = "layer_model"  # as ComfyUI's folder for them is called


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One file of a repository."""

    name: str
    size: int | None = None  # bytes
    sha256: str | None = None
    kind: str | None = None  # as `file_kinds.identify` names it; None for what is no safetensors file


@dataclass(frozen=True, kw_only=True)
class Model:
    """Files that are fetched together."""

    name: str  # for commands
    about: str
    repository: str  # on the Hugging Face hub
    licence: str
    folder: str  # within the models folder
    megabytes: int | None  # about, for people
    files: tuple[ModelFile, ...]


def _layerdiffuse(
    name: str, about: str, file: str, kind: str, megabytes: int, *, size: int | None = None, sha256: str | None = None
) -> Model:
    return Model(
        name=name, about=about, repository="LayerDiffusion/layerdiffusion-v1", licence="CreativeML-OpenRAIL-M",
        folder=_LAYER_MODELS, megabytes=megabytes,
        files=(ModelFile(name=f"{file}.safetensors", size=size, sha256=sha256, kind=f"layerdiffuse-{kind}"),))


MODELS = (
    _layerdiffuse("sd15-decoder", "LayerDiffuse's transparent decoder for SD1.5", "layer_sd15_vae_transparent_decoder", "decoder", 208,
                  size=208_266_320, sha256="6df4712dfbb3783231b22f869a5da5cbfea782ebb05f782bd9e8744bfb0cdf03"),
    _layerdiffuse("sd15-encoder", "LayerDiffuse's transparent encoder for SD1.5", "layer_sd15_vae_transparent_encoder", "encoder", 2),
    _layerdiffuse("sd15-attention", "LayerDiffuse's attention for SD1.5: one layer", "layer_sd15_transparent_attn", "attention", 350,
                  size=350_266_608, sha256="cc9ee87452bf1ccdd419035bf9618f6bdcaac1a2d3e23694d62e5a9c721da295"),
    _layerdiffuse("sd15-joint", "LayerDiffuse's attention for SD1.5: foreground, background and blend", "layer_sd15_joint", "joint", 554,
                  sha256="2cc81c33c1a786bdc376c6d1bfb43dbdffda2f610f7c6b4ebd776505a29712bd"),
    _layerdiffuse("sd15-fg2bg", "LayerDiffuse's attention for SD1.5: a background for a foreground", "layer_sd15_fg2bg", "conditional", 563,
                  sha256="5bade856ec3e55d6ceb0e35bbc97cea7fa4953f7776c8032f2fe52ba740ed580"),
    _layerdiffuse("sd15-bg2fg", "LayerDiffuse's attention for SD1.5: a foreground for a background", "layer_sd15_bg2fg", "conditional", 563,
                  sha256="8367f976da1cc4275e513c7fb40f977ca312e79e720d7db7ae94978a9359fb62"),
    _layerdiffuse("sdxl-decoder", "LayerDiffuse's transparent decoder for SDXL", "vae_transparent_decoder", "decoder", 208,
                  size=208_266_320, sha256="59dc8feefe40d26b6cb7186aed7af70c60d94ac4f9db8ebe7f121a01ba27a2fc"),
    _layerdiffuse("sdxl-attention", "LayerDiffuse's attention for SDXL: one layer", "layer_xl_transparent_attn", "xl", 743,
                  size=743_352_688),
    Model(name="clip-tokenizer", about="CLIP's tokenizer, which checkpoints in one file lack", repository="openai/clip-vit-large-patch14",
          licence="MIT", folder="tokenizers/clip-vit-large-patch14", megabytes=None,
          files=tuple(ModelFile(name=name) for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"))),
)


def find_model(name: str) -> Model:
    """The model of this name, or the one that a file of this name belongs to. InputError where there is none."""
    for model in MODELS:
        if name == model.name or len(model.files) == 1 and name == model.files[0].name:
            return model
    raise InputError(f"got the model {name!r}; give one of {', '.join(model.name for model in MODELS)}")


def models_folder(folder: Path | None = None) -> Path:
    """``folder``, else that of the variable DREAMLAYER_MODELS, else one among the user's data. ComfyUI's `models` and its
    `models/layer_model` both mean the former."""
    chosen = folder or (Path(os.environ[FOLDER_VARIABLE]) if os.environ.get(FOLDER_VARIABLE) else _data_folder() / "dreamlayer" / "models")
    chosen = Path(os.path.abspath(chosen.expanduser()))
    return chosen.parent if chosen.name == _LAYER_MODELS else chosen


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def places(model: Model, folder: Path | None = None) -> Iterator[tuple[ModelFile, Path]]:
    """Its files, each with the path that it has in the models folder once it is fetched."""
    home = models_folder(folder) / model.folder
    return ((file, home / file.name) for file in model.files)


def require_model(name: str, folder: Path | None = None) -> Path:
    """The path of a model's one file, or the folder of its several. WeightsError with name, place and command if it is not there."""
    model = find_model(name)
    found = list(places(model, folder))
    for file, path in found:
        if not path.is_file():
            raise WeightsError(f"no {file.name} ({model.about}) in {path.parent}; fetch it with: {fetch_command(model, folder)}")
    return found[0][1] if len(found) == 1 else found[0][1].parent


def fetch_command(model: Model, folder: Path | None = None) -> str:
    """What fetches it into the models folder."""
    option = "" if models_folder(folder) == models_folder() else f" --folder {models_folder(folder)}"
    return f"dreamlayer models pull {model.name}{option}"


def fetch_hint(path: Path) -> str | None:
    """How a missing file is fetched, where its name is that of a published one."""
    for model in MODELS:
        if len(model.files) == 1 and model.files[0].name == path.name:
            home = path.parent if path.parent.name == _LAYER_MODELS else None
            place = models_folder(home) / model.folder
            return f"fetch it with: {fetch_command(model, home)}" + ("" if home else f", which puts it into {place}")
    return None
