"""The first bytes of a model file: its safetensors header, or what the file is in place of one. Nothing is loaded or unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

__all__ = ["Header", "NoHeader", "read_header"]

_LONGEST = 100_000_000  # bytes of a header, safetensors' own limit
_SAMPLE = 512  # bytes: of a zip archive, enough for the name of its first member

# What a file starts with -> the name of its kind, and the kind in words.
_FIRST_BYTES = {
    b"GGUF": ("gguf", "a GGUF file"),
    b"PK\x03\x04": ("zip", "a zip archive, which is never opened"),
    b"\x80": ("pickle", "a pickled PyTorch checkpoint, which is never opened"),
    b"version https://git-lfs": ("lfs-pointer", "a Git LFS pointer"),
    b"<": ("web-page", "a web page in place of the file"),
    b"{": ("json", "a JSON text in place of the file"),
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a whole safetensors file."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]  # in safetensors' names: F16, BF16, F32, F8_E4M3, …
    metadata: dict[str, str]


class NoHeader(Exception):
    """A file without the header of a whole safetensors file: the ``name`` of its kind, and as text the kind in words."""

    def __init__(self, name: str, phrase: str) -> None:
        super().__init__(phrase)
        self.name = name


def read_header(path: Path) -> Header:
    """The header alone, whatever the size of the file. Raises NoHeader, also for what is missing or cannot be read."""
    try:
        size, content = _header_bytes(path)
    except FileNotFoundError as error:
        raise NoHeader("missing", "no such file") from error
    except (OSError, ValueError) as error:  # the latter for a path that none can be
        raise NoHeader("unreadable", f"a file that cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return _parsed(content, size)


def _header_bytes(path: Path) -> tuple[int, bytes]:
    """The size of the file, and its header unparsed."""
    if path.is_dir():
        raise NoHeader("folder", "a model folder in diffusers' layout" if (path / "model_index.json").is_file() else "a folder")
    if path.exists() and not path.is_file():  # a pipe, which would be waited for
        raise NoHeader("no-safetensors", "no regular file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
        length = int.from_bytes(start[:8], "little")
        if start[8:9] != b"{":
            raise _other(start, size)
        file.seek(8)
        content = file.read(length) if length <= min(size, _LONGEST) else b""
    if len(content) < length:
        raise NoHeader("truncated", f"a truncated safetensors file: it ends within its header, at {size} bytes")
    return size, content


def _other(start: bytes, size: int) -> NoHeader:
    if not start:
        return NoHeader("empty", "an empty file (0 bytes)")
    name, phrase = next(
        (kind for first, kind in _FIRST_BYTES.items() if start.lstrip().startswith(first)),
        ("no-safetensors", f"not a safetensors file ({size} bytes)"))
    if name == "zip" and b"data.pkl" in start:
        name, phrase = _FIRST_BYTES[b"\x80"]
    return NoHeader(name, phrase)


def _parsed(content: bytes, size: int) -> Header:
    try:
        entries = cast("dict[str, Any]", json.loads(content))
        metadata = entries.pop("__metadata__", None) or {}
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in entries.items()}
        promised = 8 + len(content) + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        header = Header(shapes=shapes, dtypes=dtypes, metadata={str(key): str(value) for key, value in metadata.items()})
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise NoHeader("damaged", "a safetensors file with a damaged header") from error
    if size != promised:
        name = "truncated" if size < promised else "damaged"
        raise NoHeader(name, f"a {name} safetensors file: its header promises {promised} bytes, it has {size}")
    return header
