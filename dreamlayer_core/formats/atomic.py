"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import DreamLayerError, OutputError

__all__ = ["staged_file", "staged_folder"]


@contextmanager
def staged_folder(target: Path, *, overwrite: bool, mark: str, written: Sequence[str]) -> Generator[Path, None, None]:
    """A new folder beside `target` to write into, renamed to `target` at the end of the block.

    If the block raises anything, an interrupt too, nothing remains. An existing `target` is refused, unless `overwrite`
    is given and it is empty or holds a file called `mark`: then it is swapped as a whole, and what else lies in it,
    files that match none of the patterns `written` (their paths within it, with slashes), is carried over.
    Raises `OutputError`, also for every `OSError` of the block.
    """
    target = _resolved(target)
    try:
        _check_target(target, overwrite, mark)
        staging = _sibling(target, "partial")
        try:
            staging.mkdir()
            yield staging
            _publish(staging, target, written)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except DreamLayerError:
        raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}); choose another folder") from error


@contextmanager
def staged_file(target: Path) -> Generator[Path, None, None]:
    """A path beside `target` to write a file at, which becomes `target` at the end of the block.

    If the block raises anything, an interrupt too, nothing remains. An existing `target` is refused.
    Raises `OutputError`, also for every `OSError` of the block.
    """
    target = _resolved(target)
    try:
        _check_new(target)
        staging = _sibling(target, "partial")
        try:
            yield staging
            _publish_file(staging, target)
        finally:
            staging.unlink(missing_ok=True)
    except DreamLayerError:
        raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}); choose another place") from error


def _check_new(target: Path) -> None:
    if os.path.lexists(target):
        raise OutputError(f"{target} already exists; choose another name")


def _publish_file(staging: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(staging, target)  # unlike a rename it never replaces what has appeared there meanwhile
    except OSError:  # also where the disk knows no hard links
        _check_new(target)
        staging.rename(target)


def _resolved(target: Path) -> Path:
    """The folder itself where `target` is a link: that is what gets replaced."""
    try:
        return target.expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(f"{target} is no usable path ({error}); choose another folder") from error


def _check_target(target: Path, overwrite: bool, mark: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{target} is a file; choose another folder")
    if not overwrite:
        raise OutputError(f"{target} already exists; choose another folder, or allow overwriting")
    if any(target.iterdir()) and not (target / mark).is_file():
        raise OutputError(f"{target} is not empty and holds no {mark}; only a saved stack is overwritten")


def _sibling(target: Path, kind: str) -> Path:
    """An unused path on the same disk: in the nearest folder above that exists, so that no parent is made too early."""
    home = next(parent for parent in target.parents if parent.exists())
    return home / f".dreamlayer-{secrets.token_hex(6)}.{kind}"


def _publish(staging: Path, target: Path, written: Sequence[str]) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        return
    previous = _sibling(target, "previous")
    try:
        target.rename(previous)
        staging.rename(target)
    except BaseException:
        if previous.exists() and not target.exists():
            previous.rename(target)
        raise
    try:
        _carry_over(previous, target, written)
    except OSError as error:
        raise OutputError(f"{target} is written, but not all other files of it could be kept ({error}); they are in {previous}") from error
    shutil.rmtree(previous, ignore_errors=True)


def _carry_over(previous: Path, target: Path, written: Sequence[str]) -> None:
    for file in sorted(previous.rglob("*")):
        path = file.relative_to(previous)
        if (file.is_dir() and not file.is_symlink()) or any(fnmatchcase(path.as_posix(), pattern) for pattern in written):
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        file.rename(target / path)
