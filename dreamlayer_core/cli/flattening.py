"""`dreamlayer flatten`: a saved stack as one picture."""

from __future__ import annotations

from pathlib import Path

from ..formats import flatten_saved, write_png
from .output import staged_file

__all__ = ["flatten_to_file"]


def flatten_to_file(stack: Path, out: Path, *, overwrite: bool) -> dict[str, object]:
    """Merge a stack (Eq. 1, with visibility, opacity, placement and blend modes) into a PNG; returns what `--json` prints."""
    picture = flatten_saved(stack)
    with staged_file(out, overwrite=overwrite) as part:
        write_png(picture, part)
    return {"file": str(out), "width": int(picture.shape[-1]), "height": int(picture.shape[-2])}
