"""Reading and writing safetensors files with a format, a version and settings in their metadata. Nothing is ever unpickled.

Every WeightsError begins with the file's path and says what is wrong and what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError, OutputError, WeightsError
from .file_kinds import identify, refusal
from .tensor_checks import check_values

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["FORMAT_VERSION", "about", "check_version", "parse_settings", "read_tensors", "write_tensors"]

FORMAT_VERSION = "1"

_Settings = TypeVar("_Settings", bound="DataclassInstance")


@contextmanager
def about(path: Path) -> Generator[None]:
    """Errors raised inside become WeightsErrors that begin with the path."""
    try:
        yield
    except (InputError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors, on the CPU, and the metadata. Raises WeightsError for what is not a whole safetensors file."""
    try:
        # cast: an untyped extension class
        with cast("Any", safe_open(path, framework="pt")) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {_diagnosis(path, error)}") from error


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    kind: str,
    settings: DataclassInstance,
    *,
    dtype: torch.dtype | None = None,
    **metadata: str,
) -> None:
    """Write one file, whole or not at all. Raises OutputError; WeightsError where a value is not finite in `dtype`."""
    # clones: safetensors refuses tensors that share memory, as a fresh copy of a K/V set may
    copies = {name: tensor.detach().to("cpu", dtype).clone().contiguous() for name, tensor in tensors.items()}
    with about(path):
        check_values(copies)
    metadata |= {"format": kind, "format_version": FORMAT_VERSION, "settings": json.dumps(asdict(settings))}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(save(copies, metadata))  # save_file() makes files that only their owner can read
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {path}: {error}; choose a writable folder with enough room") from error
    finally:
        with suppress(OSError):
            part.unlink()


def check_version(metadata: Mapping[str, str]) -> None:
    """Does this release read files of this version? Raises WeightsError."""
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise WeightsError(
            f"got format_version {version!r}, this release reads {FORMAT_VERSION!r}; "
            "update DreamLayer or fetch a matching file"
        )


def parse_settings(kind: type[_Settings], metadata: Mapping[str, str]) -> _Settings:
    """The settings dataclass in the metadata: every field must be there, nothing else, and of its type. Raises WeightsError.

    A field with ``optional`` in its own metadata may be absent, as it is in files that are older than it.
    """
    try:
        values: Any = json.loads(metadata.get("settings", "null"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the settings in its metadata are not JSON ({error}); fetch or save it again") from error
    if not isinstance(values, dict):
        raise WeightsError("its metadata has no settings; fetch or save it again")
    optional = {one.name for one in fields(kind) if one.metadata.get("optional") and one.name not in values}
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in optional}
    return kind(**_checked(cast("dict[str, object]", values), hints))


def _checked(values: dict[str, object], hints: Mapping[str, object]) -> dict[str, Any]:
    for name in sorted(hints.keys() ^ values.keys()):
        state = "missing" if name in hints else "unknown to this release"
        raise WeightsError(f"the setting {name!r} is {state}; fetch or save the file again")
    for name, hint in hints.items():
        if not _has_type(values[name], hint):
            raise WeightsError(
                f"the setting {name!r} is {values[name]!r}, expected {hint}; fetch or save the file again"
            )
    return values


def _has_type(value: object, hint: Any) -> bool:
    if get_origin(hint) is tuple:  # the only tuples in settings are of integers
        return isinstance(value, list) and all(type(item) is int for item in cast("list[object]", value))
    return type(value) is hint


def _diagnosis(path: Path, error: Exception) -> str:
    found = identify(path)
    if found.dtypes:  # its header is whole, and still it cannot be read
        return f"this is {found.describe()}, but damaged ({error}); fetch it again"
    return refusal(found)
