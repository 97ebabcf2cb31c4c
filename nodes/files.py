"""LAYERS to and from files: PSD, OpenRaster, and folders of PNG."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import io, ui
from einops import rearrange
from torch import Tensor

from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.formats import load_stack, save_file, save_stack
from ..dreamlayer_core.formats.atomic import staged_file
from ..dreamlayer_core.layers import LayerStack
from .checks import told
from .documents import flattened, layers_from_stacks, stacks_from_layers

__all__ = ["NODES"]

_FOLDER = "png folder"
_ENDINGS = {"psd": ".psd", "ora": ".ora", _FOLDER: ""}
_LOADABLE = (".psd", ".ora")
_BLOCK = 2**20  # bytes read at once for a fingerprint


class DreamLayerSaveLayers(io.ComfyNode):
    """LAYERS to a file or folder in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerSaveLayers",
            display_name="Save Layers",
            category="DreamLayer/layers",
            description=(
                "Saves layers with names, places, opacity and blend modes for Photoshop, Krita and GIMP, one file per "
                "picture, in ComfyUI's output folder. A file appears when it is complete, and nothing is overwritten."
            ),
            search_aliases=["save psd", "export psd", "save ora", "openraster", "photoshop", "krita", "gimp"],
            is_output_node=True,
            inputs=[
                io.Layers.Input("layers", tooltip="Layers to save."),
                io.String.Input(
                    "filename_prefix",
                    default="dreamlayer/layers",
                    tooltip=(
                        "Start of the file name, with folders before it. A number is added that is not yet taken. "
                        "Knows %year%, %month%, %day%, %width% and %height%."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=list(_ENDINGS),
                    default="psd",
                    tooltip=(
                        "psd: Photoshop, GIMP, Krita (needs psd-tools). ora: OpenRaster for Krita, GIMP and MyPaint. "
                        "png folder: one PNG per layer, the merged picture, an overview, and stack.json."
                    ),
                ),
                io.Image.Input(
                    "composite",
                    optional=True,
                    tooltip=(
                        "A finished picture to keep besides the layers, such as the harmonized one: a hidden layer on "
                        "top, or harmonized.png in a PNG folder."
                    ),
                ),
            ],
            outputs=[
                io.Layers.Output("layers", tooltip="The layers as they came in."),
                io.String.Output("path", tooltip="Where the layers were saved; one line per picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None, format: str | None = None) -> bool | str:
        # Before the run: it would be late to learn of it when the pictures are made. None comes through a wire.
        try:
            if filename_prefix is not None:
                _check_prefix(filename_prefix)
            if format is not None:
                _check_format(format)
        except InputError as error:
            return str(error)
        if format == "psd" and find_spec("psd_tools") is None:
            install = f"pip install psd-tools, for ComfyUI's Python {sys.executable}"
            return f"a PSD needs psd-tools; install it ({install}), or choose ora or {_FOLDER}"
        return True

    @classmethod
    def execute(
        cls, layers: io.Layers.Type, filename_prefix: str, format: str, composite: io.Image.Type | None = None
    ) -> io.NodeOutput:
        _check_format(format)
        stacks = stacks_from_layers(layers)
        finished = _finished(composite, stacks)
        preview = flattened(stacks)[0]
        _check_prefix(filename_prefix)
        paths = [
            _save(stack, picture, filename_prefix, format, _workflow(cls.hidden))
            for stack, picture in zip(stacks, finished, strict=True)
        ]
        shown = ui.PreviewImage(preview, cls=cls).as_dict() | {
            "files": [file for path in paths for file in _listed(path)]
        }
        return io.NodeOutput(layers, "\n".join(str(path) for path in paths), ui=shown)


def _finished(composite: Tensor | None, stacks: list[LayerStack]) -> list[Tensor | None]:
    """The finished picture (3, h, w) of every stack."""
    if composite is None:
        return [None] * len(stacks)
    expected = (stacks[0].height, stacks[0].width)
    if composite.ndim != 4 or composite.shape[-1] not in (3, 4) or tuple(composite.shape[1:3]) != expected:
        raise InputError(
            f"got a composite of shape {tuple(composite.shape)} for layers of {expected[1]}x{expected[0]} pixels; "
            "give a picture of the layers' own size, or leave it unconnected"
        )
    if len(composite) not in (1, len(stacks)):
        raise InputError(f"got {len(composite)} composites for {len(stacks)} pictures; give one, or {len(stacks)}")
    pictures = rearrange(composite[..., :3].to("cpu", torch.float32), "b h w c -> b c h w")
    return list(pictures.expand(len(stacks), -1, -1, -1))


def _check_format(format: str) -> None:
    if format not in _ENDINGS:
        raise InputError(f"got format {format!r}; give one of {', '.join(_ENDINGS)}")


def _check_prefix(prefix: str) -> None:
    home = folder_paths.get_output_directory()
    inside = folder_paths.is_within_directory(home, os.path.join(home, os.path.dirname(os.path.normpath(prefix))))
    if not prefix.strip() or not inside or os.path.basename(os.path.normpath(prefix)) in (".", ".."):
        raise InputError(
            f"got the file name prefix {prefix!r}; give a name inside the output folder, like layers/picture"
        )


def _workflow(hidden: io.HiddenHolder | None) -> dict[str, Any]:
    """What ComfyUI tells of the graph, by the name under which it can be dropped onto its canvas again."""
    if args.disable_metadata or not hidden:
        return {}
    found = {"prompt": hidden.prompt, "workflow": (hidden.extra_pnginfo or {}).get("workflow")}
    return {name: graph for name, graph in found.items() if graph}


def _save(stack: LayerStack, finished: Tensor | None, prefix: str, format: str, graphs: dict[str, Any]) -> Path:
    path = _free_path(prefix, _ENDINGS[format], stack)
    if format != _FOLDER:
        return save_file(stack, path, harmonized=finished)
    save_stack(stack, path, harmonized=finished, formats=("png",))
    for name, graph in graphs.items():
        with staged_file(path / f"{name}.json") as file:
            file.write_text(json.dumps(graph), encoding="utf-8")
    return path


def _free_path(prefix: str, ending: str, stack: LayerStack) -> Path:
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), stack.width, stack.height
    )
    # ComfyUI counts by the names that it finds; a name with a % in it, or a folder beside a file, can slip past that.
    while os.path.lexists(path := os.path.join(folder, f"{name}_{counter:05}_{ending}")):
        counter += 1
    return Path(path)


def _listed(path: Path) -> Iterator[ui.SavedResult]:
    """The files of a saved picture as ComfyUI's history lists them, so that clients can fetch them."""
    home = folder_paths.get_output_directory()
    for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
        folder = os.path.relpath(file.parent, home).replace(os.sep, "/")
        yield ui.SavedResult(file.name, "" if folder == "." else folder, io.FolderType.output)


class DreamLayerLoadLayers(io.ComfyNode):
    """A PSD or OpenRaster file to LAYERS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerLoadLayers",
            display_name="Load Layers",
            category="DreamLayer/layers",
            description=(
                "Loads the layers of a PSD or OpenRaster file from ComfyUI's input folder. Groups are dissolved; what "
                "cannot be kept exactly (adjustment layers, layer styles, clipping) is refused with the layer's name."
            ),
            search_aliases=["load psd", "open psd", "import psd", "load ora", "openraster", "photoshop", "krita"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_loadable_files(),
                    tooltip="A .psd or .ora file in ComfyUI's input folder.",
                )
            ],
            outputs=[
                io.Layers.Output("layers", tooltip="The layers with names, places, opacity and blend modes."),
                io.Image.Output(
                    "image", tooltip="The layers merged in sRGB: RGB where they cover everything, else RGBA."
                ),
                io.Mask.Output("mask", tooltip="Transparency of the merged picture (1 = transparent)."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # it comes through a wire: not known yet
            return True
        return told(lambda: _input_path(file))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        digest = hashlib.sha256()
        with _input_path(file).open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        stack = load_stack(_input_path(file))
        image, mask = flattened([stack])
        return io.NodeOutput(layers_from_stacks([stack]), image, mask, ui=ui.PreviewImage(image, cls=cls))


def _loadable_files() -> list[str]:
    """Files of the input folder and its subfolders, by the names that ComfyUI finds them by again."""
    home = folder_paths.get_input_directory()
    found = (os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names)
    return sorted(
        os.path.relpath(path, home).replace(os.sep, "/") for path in found if path.lower().endswith(_LOADABLE)
    )


def _input_path(file: str) -> Path:
    """Where a file of the combo lies. Raises `InputError` if it is missing, no layers, or outside ComfyUI's folders."""
    wanted = f"choose a {' or '.join(_LOADABLE)} file in ComfyUI's input folder"
    if not isinstance(file, str) or not folder_paths.exists_annotated_filepath(file):
        raise InputError(f"there is no file {file!r}; {wanted}")
    path = Path(folder_paths.get_annotated_filepath(file))
    if not path.is_file() or path.suffix.lower() not in _LOADABLE:
        raise InputError(f"{file!r} is no file with layers; {wanted}")
    return path


NODES: list[type[io.ComfyNode]] = [DreamLayerSaveLayers, DreamLayerLoadLayers]
