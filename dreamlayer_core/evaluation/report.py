"""The results page: tables with intervals, what each part adds, the goals, and picture grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..errors import OutputError
from .configurations import HARMONIZED, TRUE_SCENE
from .results import METRICS, Comparison, Results, Row
from .strips import TILES, draw_grid, strip_tiles
from .tables import cell, change_cell, goal_table, markdown_table

__all__ = ["write_report"]

_OBJECTS = ("layer_kind", "layer_color", "layer_object", "placed", "found")
_LAYERS = ("alpha_iou", "overlap", "purity", "psnr", "shadow", "foot_error")
_DISTANCES = ("fid_picture", "fid_background", "fid_foreground")
_SWEEP = ("layer_object", "placed", "alpha_iou", "purity", "psnr", "fid_picture")
_FREE = ("layer_object", "placed", "found", "alpha_iou", "overlap", "purity", "psnr")
_GUIDANCE = ("kept", "layer_kind", "layer_color", "layer_object", "placed", "alpha_iou", "purity")
_HARMONY = ("placed", "shadow", "foot_error", "fid_picture")
_RESULT = len(TILES) - 1

_INTRODUCTION = """\
# Evaluation on held-out scenes

{samples} scenes whose (kind, colour, ground) triples were never trained on, with 1 to 4 foregrounds; DDIM of {steps} steps,
guidance {guidance}, seed {seed}, {size} pixels, {precision}, views of the transparent decoder: {views}.
All configurations start from the same noise and are guided alike, those without the adapter, too. Means with 95 %
intervals, bootstrapped over scenes; arrows say which way is better. *True scene* is the truth itself: the best that can be
measured. `dreamlayer evaluate scenes` makes this page.
"""
_READING = """\
- **Object of the layer**: a classifier that sees the layer alone, on gray, names the kind and the colour that were asked for.
- **Object in its place**: it names them in the final picture, where the visible part of the layer is.
- **Object in the global picture**: it finds such an object anywhere in the picture that was sampled whole.
- **Alpha IoU**: of the layer's visible alpha and the object's mask, by the classifier, in the row's own global picture.
- **Overlap**: Σ min(α_i, α_j) over the smaller of the two areas, mean over pairs of foregrounds.
- **Background purity**: share of background layers in which no object of any kind is found.
- **Objects with a shadow**: the ground around an object's foot is darker in the final picture than in the background layer, by a
  tenth more than the rest of the picture is. Objects whose foot stands on no visible ground are left out.
- **Error where shadows fall**: mean absolute difference of the final picture and the row's own global picture on the visible ground
  around an object's foot.
- **LSSA of Eq. 10-11 alone**: without the adapter's attention between the rows of a cell, which the paper has not. The adapter was trained
  with it, all configurations with an adapter and LSSA otherwise have it.
- **FID**: Fréchet distance of the classifier's features to those of other true scenes. Comparable only within this page.
"""


def _heading(metric: str) -> str:
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    return METRICS[metric].title + arrows[METRICS[metric].better]


def _table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    body = [[row.title, *(cell(row.metrics.get(m), METRICS[m].digits) for m in metrics)] for row in rows if row.scenes]
    return markdown_table(["", *map(_heading, metrics)], body)


def _additions(comparisons: Sequence[Comparison]) -> str:
    """Differences; bold where the interval leaves zero out."""
    metrics = [m for m in METRICS if any(m in c.metrics for c in comparisons)]

    body = [[c.title, *(change_cell(c.metrics.get(m), METRICS[m].digits) for m in metrics)] for c in comparisons]
    return markdown_table(["", *map(_heading, metrics)], body)


def _goals(results: Results) -> str:
    return goal_table([(goal.text, goal.measured, goal.reached) for goal in results.goals])


def _classifier(results: Results) -> str:
    known = [(METRICS[name].title if name in METRICS else name.replace("_", " "), f"{value:.4g}")
             for name, value in results.classifier.items()]
    return markdown_table(["on true held-out scenes", "mean"], known)


def _prompts(results: Results) -> str:
    return "\n".join(f"- {seed}: {' · '.join(prompts)}" for seed, prompts in results.prompts.items()) + "\n"


def _sweep(title: str, text: str, rows: Sequence[Row], metrics: Sequence[str]) -> str:
    return f"## {title}\n\n{text.format(max(row.scenes for row in rows))}\n\n{_table(rows, metrics)}"


def _page(results: Results, grids: Sequence[tuple[str, str]]) -> str:
    sections = [
        _INTRODUCTION.format_map(results.settings),
        "## Goals\n\n" + _goals(results),
        "## Objects\n\n" + _table(results.rows, _OBJECTS),
        "## Layers\n\n" + _table(results.rows, _LAYERS),
        "## Distance to true scenes\n\n" + _table(results.rows, _DISTANCES),
        "## What each part adds\n\nDifferences on the same scenes and noise; bold where the interval leaves 0 out.\n\n"
        + _additions(results.comparisons),
        *(_sweep(*sweep) for sweep in (
            ("T_G", "CACA + LSSA on the first {} scenes, no IRH; 1000 never mixes the global row into the foregrounds (Eq. 9), "
             "0 always.", results.context_sweep, _SWEEP),
            ("T_G without an adapter", "Training-free (N = 0) on the first {} scenes. T_G is 850 for the last line.",
             results.training_free_sweep, _FREE),
            ("T_H and T'_H", "The same layers of the first {} scenes, harmonised in several ways (the paper's Table 4).",
             results.harmonization_sweep, _HARMONY),
            ("Guidance interval", "CACA + LSSA on the first {} scenes, no IRH; timesteps outside an interval are not guided.",
             results.guidance_sweep, _GUIDANCE),
            ("Shadows where the truth is known", "IRH of the layers of {} true scenes, against the true picture: mean absolute "
             "difference where the true scene has a shadow.", results.shadow_truth, ("shadow_error",)))
          if any(row.scenes for row in sweep[2])),
        "## How the figures are made\n\n" + _READING + "\nThe classifier's own figures:\n\n" + _classifier(results),
        *(["## Pictures\n\n" + "\n".join(f"{title}\n\n![{title}]({name})\n" for name, title in grids)
           + "\nPrompts of the scenes, background first:\n\n" + _prompts(results)] if grids else []),
    ]
    return "\n".join(sections)


def _column_grid(rows: Sequence[Row], seeds: Sequence[str], pictures: Path, path: Path) -> bool:
    """One column a configuration, one line a scene: what a user gets. Whether there was anything to draw."""
    shown = [row for row in rows if any((pictures / row.name / f"{int(s):04d}.png").exists() for s in seeds)]
    tiles = [[_tile(pictures / row.name / f"{int(seed):04d}.png", _RESULT) for row in shown] for seed in seeds]
    draw_grid(tiles, [row.title for row in shown], path)
    return bool(shown)


def _tile(path: Path, index: int) -> Image.Image | None:
    tiles = strip_tiles(path)
    return tiles[index] if tiles else None


def _layer_grid(name: str, seeds: Sequence[str], pictures: Path, path: Path) -> bool:
    """All tiles of one configuration, one line a scene."""
    tiles = [found for seed in seeds if (found := strip_tiles(pictures / name / f"{int(seed):04d}.png"))]
    draw_grid(tiles, TILES, path)
    return bool(tiles)


def write_report(results: Results, pictures: Path, folder: Path) -> None:
    """Write ``scenes.md`` and its picture grids (JPEG) into ``folder``, from the strips in ``pictures``. Raises OutputError."""
    seeds = list(results.prompts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = [
            (_column_grid(results.rows, seeds, pictures, folder / "scenes-configurations.jpg"), "scenes-configurations.jpg",
             "Results of every configuration, a scene a line"),
            (_layer_grid(HARMONIZED, seeds, pictures, folder / "scenes-layers.jpg"), "scenes-layers.jpg",
             "Layers of CACA + LSSA + IRH: what was sampled, and what is put together from it"),
            (_layer_grid(TRUE_SCENE, seeds, pictures, folder / "scenes-truth.jpg"), "scenes-truth.jpg", "The true scenes"),
            (_column_grid(results.context_sweep, seeds, pictures, folder / "scenes-t-g.jpg"), "scenes-t-g.jpg", "T_G"),
            (_column_grid(results.training_free_sweep, seeds, pictures, folder / "scenes-training-free.jpg"),
             "scenes-training-free.jpg", "T_G without an adapter"),
            (_column_grid(results.harmonization_sweep, seeds, pictures, folder / "scenes-t-h.jpg"), "scenes-t-h.jpg",
             "T_H and T'_H"),
        ]
        grids = [(name, title) for is_drawn, name, title in drawn if is_drawn]
        (folder / "scenes.md").write_text(_page(results, grids), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the report to {folder}: {error}; choose a writable folder") from error
