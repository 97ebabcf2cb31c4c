"""A saved stack: one folder with everything, or one file, that appears whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..composite import flatten
from ..derived import own_layers
from ..errors import FormatError, InputError, OutputError
from ..layers import Layer, LayerStack
from .atomic import staged_file, staged_folder
from .document import LayerEntry, StackDocument, describe, plain_json, read_document
from .limits import Limits, PixelBudget
from .ora import read_ora, write_ora
from .overview import draw_overview
from .png import read_png, write_png
from .trajectory import TRAJECTORY, StoredTrajectory, read_trajectory, write_trajectory

__all__ = ["FORMATS", "flatten_saved", "load_document", "load_stack", "load_trajectory", "save_file", "save_stack"]

FORMATS = ("png", "psd", "ora")
DOCUMENT = "stack.json"
WRITTEN = (DOCUMENT, "composite.png", "overview.png", "harmonized.png", "stack.ora", "stack.psd", TRAJECTORY, "layers/[0-9][0-9]*-*.png")
_RESULT, _TRAJECTORY = "harmonized", "trajectory"
_LAYERED = {"ora": "stack.ora", "psd": "stack.psd"}
_INSTALL = f"install it (pip install psd-tools, for the Python {sys.executable})"


def save_stack(
    stack: LayerStack,
    folder: str | Path,
    *,
    settings: Mapping[str, object] | None = None,
    timings: Mapping[str, object] | None = None,
    harmonized: Tensor | None = None,
    context_maps: Tensor | None = None,
    trajectory: StoredTrajectory | None = None,
    formats: Collection[str] = FORMATS,
    overwrite: bool = False,
) -> Path:
    """Write a stack with all its pictures into a new folder and return the folder.

    Always: stack.json, composite.png (Eq. 1), overview.png. By `formats`: "png" layers/NN-name.png on the whole canvas
    with straight alpha, "psd" stack.psd, "ora" stack.ora. `harmonized` (3, height, width) becomes harmonized.png, and
    a hidden layer on top in PSD and ORA. `context_maps` (foregrounds, h, w) in [0, 1], of any size, are drawn in the
    overview; layers of effects and residual have none. `trajectory` becomes trajectory.safetensors, from which the stack's layers can be edited and regenerated.

    The folder appears at once when everything is written, and not at all if anything fails or the run is interrupted.
    With `overwrite` a stack saved there before is replaced as a whole; other files in its folder stay.
    Raises `InputError` for values that do not fit the stack, `OutputError` where the folder exists or cannot be made.
    """
    _check_extras(stack, harmonized, context_maps)
    _check_formats(formats)
    files = {"composite": "composite.png", "overview": "overview.png"}
    files |= {} if harmonized is None else {_RESULT: "harmonized.png"}
    files |= {kind: name for kind, name in _LAYERED.items() if kind in formats}
    files |= {} if trajectory is None else {_TRAJECTORY: TRAJECTORY}
    document = describe(
        stack,
        layer_files="png" in formats,
        files=files,
        settings=plain_json("settings", settings or {}),
        timings=plain_json("timings", timings or {}),
    )
    target = Path(folder).expanduser()
    with staged_folder(target, overwrite=overwrite, mark=DOCUMENT, written=WRITTEN) as staging:
        _write_all(staging, stack, document, harmonized, context_maps)
        if trajectory is not None:
            write_trajectory(trajectory, staging / TRAJECTORY)
    return target


def save_file(stack: LayerStack, path: str | Path, *, harmonized: Tensor | None = None) -> Path:
    """Write a stack as one .psd or .ora file and return its path; `harmonized` (3, height, width) as in `save_stack`.

    The file appears at once when everything is written, and not at all if anything fails or the run is interrupted.
    Raises `InputError` for values that do not fit, `OutputError` where the file exists or cannot be made.
    """
    _check_extras(stack, harmonized, None)
    target = Path(path).expanduser()
    kind, extra = target.suffix.lower(), () if harmonized is None else (_result_layer(harmonized),)
    if kind not in (".psd", ".ora"):
        raise InputError(f"got the file name {target.name!r}; end it in .psd or .ora")
    with staged_file(target) as staging:
        if kind == ".psd":
            _save_psd(stack, staging, extra)
        else:
            write_ora(stack, staging, extra=extra)
    return target


def _check_extras(stack: LayerStack, harmonized: Tensor | None, context_maps: Tensor | None) -> None:
    expected = (3, stack.height, stack.width)
    if harmonized is not None and tuple(harmonized.shape) != expected:
        raise InputError(f"got a harmonized picture of shape {tuple(harmonized.shape)}; give {expected}")
    if context_maps is not None:
        shape, count = tuple(context_maps.shape), sum(index > 0 for index in own_layers(stack))
        if len(shape) != 3 or shape[0] != count or 0 in shape[1:]:
            raise InputError(f"got context maps of shape {shape}; give ({count}, h, w), one per foreground that is no effect or residual")
    for what, picture in (("a harmonized picture", harmonized), ("context maps", context_maps)):
        if picture is not None and not bool(torch.isfinite(picture).all()):
            raise InputError(f"got {what} with NaN or infinite values; give floats in [0, 1]")


def _check_formats(formats: Collection[str]) -> None:
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or isinstance(formats, str):
        raise InputError(f"got formats {formats!r}; give any of {', '.join(FORMATS)}")


def _write_all(
    folder: Path, stack: LayerStack, document: StackDocument, harmonized: Tensor | None, context_maps: Tensor | None
) -> None:
    for layer, entry in zip(stack.layers, document.layers, strict=True):
        if entry.file is not None:
            (folder / entry.file).parent.mkdir(exist_ok=True)
            write_png(layer.on_canvas(stack.width, stack.height).rgba, folder / entry.file)
    write_png(flatten(stack), folder / "composite.png")
    if harmonized is not None:
        write_png(harmonized, folder / "harmonized.png")
    extra = () if harmonized is None else (_result_layer(harmonized),)
    if "psd" in document.files:
        _save_psd(stack, folder / document.files["psd"], extra)
    if "ora" in document.files:
        write_ora(stack, folder / document.files["ora"], extra=extra)
    sheet = draw_overview(stack, harmonized=harmonized, context_maps=context_maps, settings=document.settings)
    sheet.save(folder / "overview.png", "PNG")
    (folder / DOCUMENT).write_text(document.to_json(), encoding="utf-8")


def _result_layer(harmonized: Tensor) -> Layer:
    """The harmonized picture as the hidden layer that artists find on top of the others."""
    alpha = torch.ones_like(harmonized[:1])
    return Layer(name=_RESULT, color=harmonized, alpha=alpha, visible=False)


def _save_psd(stack: LayerStack, path: Path, extra: Sequence[Layer]) -> None:
    try:
        from .psd import write_psd  # noqa: PLC0415 - psd-tools is loaded only where a PSD is written
    except ImportError as error:
        raise OutputError(f"a PSD needs psd-tools ({error}); {_INSTALL}, or save without the format psd") from error
    write_psd(stack, path, extra=extra)


def _load_psd(path: Path, limits: Limits) -> LayerStack:
    try:
        from .psd import read_psd  # noqa: PLC0415 - psd-tools is loaded only where a PSD is read
    except ImportError as error:
        raise FormatError(f"{path} needs psd-tools ({error}); {_INSTALL}, or give an .ora file") from error
    return read_psd(path, limits)


def load_stack(source: str | Path, *, limits: Limits | None = None) -> LayerStack:
    """Read a stack from the folder of a saved one, its stack.json, an .ora or a .psd file.

    Layers of the folder fill the canvas; those of ORA and PSD keep their own sizes and places. A hidden top layer
    called "harmonized", which `save_stack` adds to ORA and PSD, is not a layer of the stack and is left out.
    Raises `FormatError` for anything missing, damaged, larger than `limits`, or that cannot be read exactly.
    """
    path, limits = Path(source).expanduser(), limits or Limits()
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind == "folder":
        return _load_folder(path / DOCUMENT, limits)
    if kind == ".json":
        return _load_folder(path, limits)
    if kind == ".ora":
        return _without_result(read_ora(path, limits))
    if kind == ".psd":
        return _without_result(_load_psd(path, limits))
    raise FormatError(f"{path} holds no layers; give the folder of a saved stack, its {DOCUMENT}, an .ora or a .psd")


def load_document(source: str | Path, *, limits: Limits | None = None) -> StackDocument | None:
    """What a saved stack's stack.json says: settings, prompts and files; None for an .ora or .psd. Raises FormatError."""
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / DOCUMENT
    return read_document(path, limits or Limits()) if path.suffix.lower() == ".json" else None


def load_trajectory(source: str | Path, *, limits: Limits | None = None) -> StoredTrajectory | None:
    """The trajectory saved with a stack; None where none was saved, as in every .ora and .psd. Raises FormatError."""
    document, path = load_document(source, limits=limits), Path(source).expanduser()
    if document is None or _TRAJECTORY not in document.files:
        return None
    return read_trajectory(_inside(path if path.is_dir() else path.parent, document.files[_TRAJECTORY]))


def flatten_saved(source: str | Path, *, limits: Limits | None = None) -> Tensor:
    """The picture (3, h, w) of a saved stack: `load_stack`, then Eq. 1."""
    return flatten(load_stack(source, limits=limits))


def _without_result(stack: LayerStack) -> LayerStack:
    top = stack.layers[-1]
    is_result = len(stack.layers) > 1 and top.name == _RESULT and not top.visible
    return replace(stack, layers=stack.layers[:-1]) if is_result else stack


def _load_folder(path: Path, limits: Limits) -> LayerStack:
    document = read_document(path, limits)
    if any(entry.file is None for entry in document.layers):
        return _load_described(path.parent, document, limits)
    budget = limits.budget()
    layers = tuple(_load_layer(path.parent, entry, document, budget) for entry in document.layers)
    size = document.size
    return LayerStack(width=size.width, height=size.height, layers=layers, global_prompt=document.global_prompt)


def _load_layer(folder: Path, entry: LayerEntry, document: StackDocument, budget: PixelBudget) -> Layer:
    rgba = read_png(_inside(folder, entry.file or ""), f"layer {entry.file}", budget)
    size = (document.size.width, document.size.height)
    if (rgba.shape[-1], rgba.shape[-2]) != size:
        found, wanted = f"{rgba.shape[-1]}x{rgba.shape[-2]}", f"{size[0]}x{size[1]}"
        raise FormatError(f"layer {entry.file} is {found} pixels on a canvas of {wanted}; scale it to the canvas")
    return _described(Layer(name="", color=rgba[:3], alpha=rgba[3:]), entry)


def _inside(folder: Path, name: str) -> Path:
    """The file that a document names, which must lie in the document's own folder."""
    try:
        path, home = (folder / name).resolve(), folder.resolve()
        if path.is_relative_to(home) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError) as error:
        raise FormatError(f"the stack names a file {name!r} that cannot be opened ({error}); save it again") from error
    raise FormatError(f"the stack names a file {name!r}, which is not in {folder}; copy the folder as a whole")


def _load_described(folder: Path, document: StackDocument, limits: Limits) -> LayerStack:
    """A stack saved without layer PNGs: pixels of its ORA or PSD, everything else of stack.json."""
    files = document.files
    if "ora" in files:
        stack = read_ora(_inside(folder, files["ora"]), limits)
    elif "psd" in files:
        stack = _load_psd(_inside(folder, files["psd"]), limits)
    else:
        raise FormatError(f"{folder} was saved without layers; save the stack with png, ora or psd")
    stack = _without_result(stack)
    if len(stack.layers) != len(document.layers):
        have, want = len(stack.layers), len(document.layers)
        raise FormatError(f"{folder} has {have} layers in its file and {want} in {DOCUMENT}; load the file itself")
    layers = tuple(_described(layer, entry) for layer, entry in zip(stack.layers, document.layers, strict=True))
    return replace(stack, layers=layers, global_prompt=document.global_prompt)


def _described(layer: Layer, entry: LayerEntry) -> Layer:
    try:
        return replace(
            layer,
            name=entry.name,
            prompt=entry.prompt,
            seed=entry.seed,
            visible=entry.visible,
            opacity=entry.opacity,
            blend_mode=entry.blend_mode,
        )
    except InputError as error:
        raise FormatError(f"{DOCUMENT}: {error}") from error
