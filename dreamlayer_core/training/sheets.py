"""Sample sheets: rows of pictures under a title."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["picture_sheet"]


def picture_sheet(
    rows: Sequence[Tensor], path: Path, *, title: str = "", captions: Sequence[str] = (), scale: int = 1
) -> None:
    """Write rows of pictures, each (n, 3, h, w) in [0,1], as one PNG; one caption per row where given."""
    grid = torch.cat([torch.cat(list(row.float().clamp(0, 1)), -1) for row in rows], -2)
    picture = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.LANCZOS)
    lines = [line for line in (title, *captions) if line]
    sheet = Image.new("RGB", (picture.width, picture.height + 16 * len(lines) + 4 * bool(lines)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, line in enumerate(lines):
        draw.text((4, 2 + 16 * index), line, "black", font)
    sheet.paste(picture, (0, sheet.height - picture.height))
    sheet.save(path)
