"""Single files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError

__all__ = ["staged_file"]


@contextmanager
def staged_file(target: Path, *, overwrite: bool) -> Generator[Path, None, None]:
    """A path beside `target` to write to, renamed to it at the end. Raises OutputError."""
    if target.is_dir() or (target.exists() and not overwrite):
        what = "is a folder" if target.is_dir() else "exists"
        raise OutputError(f"{target} {what}; give another --out, or --overwrite a file")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror or error}); choose a writable folder") from error
    finally:
        with suppress(OSError):
            part.unlink()
