"""stack.json: what a saved stack is made of, versioned."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ..errors import FormatError, InputError
from ..layers import Box, LayerStack
from .limits import Limits

__all__ = [
    "FORMAT_VERSION",
    "LayerEntry",
    "Size",
    "StackDocument",
    "describe",
    "layer_file",
    "plain_json",
    "read_document",
]

FORMAT_VERSION = 1
_NAME_BYTES = 60  # leaves room below the 255 bytes of file systems for what archives and copies add


class _Entry(BaseModel):
    # Fields of later minor additions are passed over; a version that means something else is refused.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Size(_Entry):
    """Canvas in pixels."""

    width: int
    height: int


class LayerEntry(_Entry):
    """One layer: `file` is relative to stack.json (None: it has no PNG), `box` (x0, y0, x1, y1) or None if empty."""

    name: str
    prompt: str = ""
    file: str | None = None
    box: Box | None = None
    seed: int | None = None
    visible: bool = True
    opacity: float = Field(default=1.0, ge=0.0, le=1.0)
    blend_mode: str = "normal"


class StackDocument(_Entry):
    """The whole of stack.json; layers stand bottom to top, layer 0 is the background."""

    format: Literal["dreamlayer-stack"] = "dreamlayer-stack"
    version: int = FORMAT_VERSION
    size: Size
    global_prompt: str = ""
    layers: list[LayerEntry]
    files: dict[str, str] = Field(default_factory=dict[str, str])
    settings: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    timings: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def describe(
    stack: LayerStack,
    *,
    layer_files: bool,
    files: Mapping[str, str],
    settings: dict[str, JsonValue],
    timings: dict[str, JsonValue],
) -> StackDocument:
    """The document of a stack; `files` names the pictures beside the layers, by kind."""
    count = len(stack.layers)
    entries = [
        LayerEntry(
            name=layer.name,
            prompt=layer.prompt,
            file=layer_file(index, count, layer.name) if layer_files else None,
            box=layer.on_canvas(stack.width, stack.height).box,
            seed=layer.seed,
            visible=layer.visible,
            opacity=layer.opacity,
            blend_mode=layer.blend_mode,
        )
        for index, layer in enumerate(stack.layers)
    ]
    return StackDocument(
        size=Size(width=stack.width, height=stack.height),
        global_prompt=stack.global_prompt,
        layers=entries,
        files=dict(files),
        settings=settings,
        timings=timings,
    )


def layer_file(index: int, count: int, name: str) -> str:
    """`layers/NN-name.png`: letters, digits and marks of any script are kept, all else becomes a dash."""
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", name))
    words = "-".join(kept.split()).encode("utf-8")[:_NAME_BYTES].decode("utf-8", errors="ignore").strip("-")
    return f"layers/{index:0{max(2, len(str(count - 1)))}d}-{words or 'layer'}.png"


def plain_json(what: str, values: Mapping[str, object]) -> dict[str, JsonValue]:
    """A copy made of JSON values only, so that what is saved is what will be read. Raises `InputError` otherwise."""
    try:
        text = json.dumps(dict(values), allow_nan=False, ensure_ascii=False)
        text.encode("utf-8")
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} cannot be written as JSON ({error}); give text, numbers, lists and dicts") from error


def read_document(path: Path, limits: Limits) -> StackDocument:
    """Read and check stack.json. Raises `FormatError`."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.metadata + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror}); give the folder of a saved stack") from error
    if len(data) > limits.metadata:
        raise FormatError(f"{path} has more than {limits.metadata} bytes; it is not a stack of layers")
    return _checked(path, _parse(path, data), limits)


def _parse(path: Path, data: bytes) -> StackDocument:
    try:
        return StackDocument.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise FormatError(f"{path} is not a saved stack ({where}: {first['msg']}); save the stack again") from error


def _checked(path: Path, document: StackDocument, limits: Limits) -> StackDocument:
    if document.version != FORMAT_VERSION:
        raise FormatError(f"{path} has version {document.version}; this program reads {FORMAT_VERSION}, so update it")
    limits.check_layers(len(document.layers))
    limits.check_size(f"the canvas of {path}", document.size.width, document.size.height)
    return document
