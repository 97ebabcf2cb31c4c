"""`dreamlayer scenes`: sample scenes as layer stacks with a contact sheet, or the cache that training reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..evaluation.pictures import scene_stack, true_pictures
from ..formats import save_stack
from ..formats.atomic import staged_folder
from ..formats.drawing import Color, beside, fit, pile, text
from ..formats.folder import WRITTEN
from ..layers import LayerStack
from ..scenes import make_scene
from ..scenes.scene import Split
from ..training.data import render_scenes

__all__ = ["render_cache", "write_samples"]

SHEET = "scenes.png"
MOST_SAMPLES = 200
_INK: Color = (28, 28, 32)
_TILE, _GAP = 176, 10


def render_cache(folder: Path, count: int, *, side: int, split: Split, workers: int | None) -> dict[str, object]:
    """Render the scenes that training reads; what is there already is kept."""
    if count < 1 or side < 32:
        raise InputError(f"got {count} scenes of {side} pixels; give at least 1 scene of at least 32 pixels")
    render_scenes(folder, count, side=side, split=split, workers=workers or os.cpu_count() or 1)
    return {"cache": str(folder), "count": count, "side": side, "split": split}


def write_samples(
    out: Path, count: int, *, seed: int, foregrounds: int | None, size: tuple[int, int], split: Split, overwrite: bool
) -> dict[str, object]:
    """Write `count` scenes as saved stacks and a contact sheet into one new folder."""
    if not 1 <= count <= MOST_SAMPLES:
        raise InputError(f"got {count} sample scenes; give 1 to {MOST_SAMPLES}, or --cache for training data")
    if max(size) > 4096:
        raise InputError(f"got a scene size of {size[0]}x{size[1]}; give sides of 32 to 4096 pixels")
    names = [f"scene-{seed + index}" for index in range(count)]
    with staged_folder(out, overwrite=overwrite, mark=SHEET, written=(SHEET, *(f"scene-*/{name}" for name in WRITTEN))) as folder:
        rows = list[Image.Image]()
        for index, name in enumerate(names):
            scene = make_scene(seed + index, foregrounds=foregrounds, size=size, split=split)
            stack = scene_stack(scene)
            picture = true_pictures(scene)[0].whole
            save_stack(stack, folder / name, settings={"scene": scene.seed, "split": split}, harmonized=picture)
            rows.append(_row(stack, picture))
        _sheet(rows).save(folder / SHEET, "PNG")
    return {"folder": str(out), "sheet": str(out / SHEET), "stacks": [str(out / name) for name in names]}


def _row(stack: LayerStack, picture: Tensor) -> Image.Image:
    tiles = [fit(tile, _TILE, _TILE) for tile in (picture, stack.background.color, *(f.rgba for f in stack.foregrounds))]
    return pile([beside(tiles, _GAP), text(stack.global_prompt, 6 * _TILE, size=16, color=_INK, lines=2)], [6])


def _sheet(rows: Sequence[Image.Image]) -> Image.Image:
    """Every scene: the picture, its background, its foregrounds, and what its caption says."""
    content = pile(list(rows), [18] * (len(rows) - 1))
    page = Image.new("RGBA", (content.width + 48, content.height + 48), "white")
    page.alpha_composite(content, (24, 24))
    return page.convert("RGB")
