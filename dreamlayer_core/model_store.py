"""Fetching published files from the Hugging Face hub, and checking those that are there.

A file is written beside its place under a name that no loader lists, goes on where an earlier attempt stopped, and gets its own name
only once its length, its checksum and its kind are right. The hub's variables hold: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and others.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url, utils
from huggingface_hub.file_download import HfFileMetadata, http_get

from .errors import InputError, OutputError, WeightsError
from .file_kinds import identify, refusal
from .model_registry import Model, ModelFile, fetch_command, places

__all__ = ["check_file", "pull_model"]

OnBytes = Callable[[str, int, int], None]  # a file's name, the bytes that are there, and those of the whole

_BLOCK = 2**20  # bytes read at once for a checksum
_PART = ".part"
_LONGEST = 300  # characters of what the hub says


def pull_model(model: Model, folder: Path | None = None, *, on_bytes: OnBytes | None = None) -> list[Path]:
    """Fetch what is missing of a model into the models folder; the paths that were fetched.

    Raises WeightsError, naming the file, its place and the next step, where the hub does not give it or gives another one, and for
    a file of its name that is another; OutputError where it cannot be written; InputError for a HF_ENDPOINT that is no address.
    """
    fetched: list[Path] = []
    for file, path in places(model, folder):
        if path.exists():
            check_file(file, path)
            continue
        with _told(model, file, path, folder), _quiet():
            _fetch(model, file, path, on_bytes or (lambda name, done, total: None))
        fetched.append(path)
    return fetched


def check_file(file: ModelFile, path: Path) -> None:
    """Is this the published file? By its length, kind and checksum, as far as they are known. Raises WeightsError."""
    _check(file, path, path)
    if file.sha256 and (found := _digest(path, hashlib.sha256())) != file.sha256:
        raise WeightsError(f"{path}: sha256 {found}, expected {file.sha256}; remove the file and fetch it again")


def _check(file: ModelFile, path: Path, place: Path) -> None:
    found = identify(path)
    if file.kind and found.name != file.kind:
        raise WeightsError(f"{place}: {refusal(found, file.kind)}")
    size = path.stat().st_size
    if file.size not in (None, size):
        raise WeightsError(f"{place}: {size} bytes, expected {file.size}; remove the file and fetch it again")
    if place.suffix == ".json":
        _check_json(path, place)


def _check_json(path: Path, place: Path) -> None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{place}: no JSON ({error}); remove the file and fetch it again") from error


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file at the hub."""

    url: str
    headers: dict[str, str]
    size: int
    etag: str  # sha256 of a large file, git's name of a small one

    def check(self, path: Path, place: Path) -> None:
        """Is this what the hub has? An etag that is no checksum says nothing."""
        algorithm = {64: hashlib.sha256(), 40: hashlib.sha1(b"blob %d\0" % self.size)}.get(len(self.etag))
        if algorithm is None or not re.fullmatch(r"[0-9a-f]+", self.etag):
            return
        if (found := _digest(path, algorithm)) != self.etag:
            raise WeightsError(f"{place}: what was fetched has the checksum {found}, the hub promised {self.etag}; fetch it again")


def _fetch(model: Model, file: ModelFile, path: Path, on_bytes: OnBytes) -> None:
    source = _look_up(model, file, path)
    if file.sha256 and len(source.etag) == len(file.sha256) and source.etag != file.sha256:
        raise WeightsError(f"{path}: the hub has another file, sha256 {source.etag}, expected {file.sha256}; "
                           "check HF_ENDPOINT, or update DreamLayer")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{hashlib.sha256(source.etag.encode()).hexdigest()[:16]}{_PART}")
    _download(source, part, path.name, on_bytes)
    try:
        source.check(part, path)
        _check(file, part, path)
        if file.sha256 not in (None, source.etag) and (found := _digest(part, hashlib.sha256())) != file.sha256:
            raise WeightsError(f"{path}: what was fetched has sha256 {found}, expected {file.sha256}; check HF_ENDPOINT, and fetch it again")
    except WeightsError:
        part.unlink()
        raise
    os.replace(part, path)
    for stale in path.parent.glob(f".{path.name}.*{_PART}"):  # of versions that the hub has no more
        with suppress(OSError):
            stale.unlink()


def _look_up(model: Model, file: ModelFile, path: Path) -> _Source:
    url = hf_hub_url(model.repository, file.name, endpoint=_endpoint())
    headers = utils.build_hf_headers(library_name="dreamlayer")
    found: HfFileMetadata = get_hf_file_metadata(url, headers=headers, endpoint=_endpoint())
    if not found.etag or found.size is None:
        raise WeightsError(f"{path}: {url} answers without an ETag or a length, as no hub does; check HF_ENDPOINT")
    if urlsplit(found.location)[:2] != urlsplit(url)[:2]:
        headers.pop("authorization", None)  # the file lies with somebody else, whom the token is not for
    return _Source(url=found.location, headers=headers, size=found.size, etag=found.etag)


def _endpoint() -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    with suppress(ValueError):
        address = urlsplit(endpoint)
        if address.scheme in ("http", "https") and address.hostname and (address.port or True):
            return endpoint
    raise InputError(f"got HF_ENDPOINT {endpoint!r}; give an address such as https://huggingface.co, or none")


class _Counted(io.BufferedWriter):
    """A file that tells how long it is."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._tell = tell

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._tell(self.tell())
        return written


def _download(source: _Source, part: Path, name: str, on_bytes: OnBytes) -> None:
    """All bytes into ``part``, after those that it has."""
    have = part.stat().st_size if part.exists() else 0
    if have > source.size:
        part.unlink()
        have = 0
    if (free := shutil.disk_usage(part.parent).free) < source.size - have:
        raise OutputError(f"{part.parent} has {free} bytes left, {source.size - have} are needed; make room, or choose another folder")
    on_bytes(name, have, source.size)
    with _Counted(part, lambda done: on_bytes(name, done, source.size)) as file:
        http_get(source.url, file, resume_size=have, headers=source.headers, expected_size=source.size, displayed_filename=name)


@contextmanager
def _told(model: Model, file: ModelFile, path: Path, folder: Path | None) -> Generator[None]:
    """Errors of the hub, its client and the disk, as ours."""
    again = f"try again: {fetch_command(model, folder)}"
    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise WeightsError(f"{path}: {_refused(status)} ({status} for {file.name} of {model.repository})") from error
    except errors.HTTPError as error:  # of the HTTP library that the hub's client uses
        raise WeightsError(f"{path}: {_endpoint()} does not answer or broke off ({_short(error)}); {again}") from error
    except (OutputError, WeightsError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise OutputError(f"{path} cannot be written ({error.strerror}); choose a folder with --folder") from error
        if constants.is_offline_mode():
            raise WeightsError(f"{path}: not there, and HF_HUB_OFFLINE is set; unset it, or bring the file from "
                               f"{hf_hub_url(model.repository, file.name, endpoint=_endpoint())}") from error
        raise WeightsError(f"{path}: {_short(error)}; {again}") from error


def _refused(status: int) -> str:
    if status in (401, 403):
        return "the hub refuses access; set HF_TOKEN to a token that may read it"
    if status == 404:
        return "the hub has no such file; check HF_ENDPOINT, or update DreamLayer"
    return "the hub fails; try again later"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


@contextmanager
def _quiet() -> Generator[None]:
    """Without the bars and warnings of the hub's client, which would run into ours."""
    shown, level = not utils.are_progress_bars_disabled(), utils.logging.get_verbosity()
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        utils.logging.set_verbosity(level)
        if shown:
            utils.enable_progress_bars()
