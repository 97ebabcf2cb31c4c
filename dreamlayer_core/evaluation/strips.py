"""The pictures of a report: one strip of tiles a scene and configuration, and grids put together from them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..composite import gray_fill
from .pictures import LayeredPicture

__all__ = ["TILES", "draw_grid", "save_strip", "save_tiles", "strip_tiles"]

TILES = ("global", "background", "foreground 1", "foreground 2", "foreground 3", "foreground 4", "composite", "result")
_FOREGROUNDS = 4
_LETTER, _LINE = 6, 14  # pixels: a title's letter, and its line


def _strip(picture: LayeredPicture) -> Tensor:
    """(3, h, 8 w) in the order of ``TILES``; foregrounds on gray; white where there is nothing."""
    blank = torch.ones_like(picture.whole)
    layers = [blank] * _FOREGROUNDS
    if picture.colors is not None and picture.alphas is not None:
        shown = list(gray_fill(picture.colors, picture.alphas[:, None]))[:_FOREGROUNDS]
        layers[: len(shown)] = shown
    plain, background = picture.composite, picture.background
    tiles = [picture.whole, blank if background is None else background, *layers, blank if plain is None else plain]
    return torch.cat([*tiles, picture.final], -1)


def save_strip(picture: LayeredPicture, folder: Path, seed: int) -> None:
    """Write ``folder/<seed>.png``."""
    save_tiles([_strip(picture)], folder, seed)


def save_tiles(tiles: Sequence[Tensor], folder: Path, seed: int) -> None:
    """Write pictures (3, h, w) of one height side by side as ``folder/<seed>.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (torch.cat(list(tiles), -1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(folder / f"{seed:04d}.png")


def strip_tiles(path: Path, count: int = len(TILES)) -> list[Image.Image]:
    """The ``count`` tiles of a strip; an empty list where there is none."""
    if not path.exists():
        return []
    with Image.open(path) as image:
        width = image.width // count
        return [image.crop((width * i, 0, width * (i + 1), image.height)).convert("RGB") for i in range(count)]


def draw_grid(rows: Sequence[Sequence[Image.Image | None]], columns: Sequence[str], path: Path) -> None:
    """Write rows of tiles of one size under column titles, as the path's ending says; missing tiles stay white."""
    tiles = [tile for row in rows for tile in row if tile is not None]
    if not tiles:
        return
    width, height, gap = *tiles[0].size, 3
    titles = [textwrap.wrap(title, max(8, width // _LETTER)) for title in columns]
    top = _LINE * max(map(len, titles)) + 2 * gap
    sheet = Image.new("RGB", ((width + gap) * len(columns), top + (height + gap) * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, lines in enumerate(titles):
        for number, line in enumerate(lines):
            draw.text((index * (width + gap) + 2, gap + number * _LINE), line, "black", font)
    for row, line in enumerate(rows):
        for column, tile in enumerate(line):
            if tile is not None:
                sheet.paste(tile, (column * (width + gap), top + row * (height + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True, quality=88)
