"""The page of `dreamlayer evaluate edits`: goals, tables with intervals, and picture grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import InversionConfig
from ..errors import OutputError
from .edit_measures import EDITED, decomposition_name
from .edit_results import EDIT_METRICS, EditResults, Section
from .strips import draw_grid, strip_tiles
from .tables import cell, change_cell, goal_table, markdown_table

__all__ = ["write_edit_report"]

_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_INTRODUCTION = """\
# Pictures to layers, and edits

{samples} scenes of two and three layers by turns, whose (kind, colour, ground) triples were never trained on; {steps} steps,
guidance {guidance}, seed {seed}, {size} pixels, {precision}, views of the transparent decoder: {views}. Means with 95 %
intervals, bootstrapped over scenes; arrows say which way is better. `dreamlayer evaluate edits` makes this page.
"""
_SECTIONS = {
    "decomposition": ("Decomposition", """\
True pictures taken apart by their prompts, without a box or a mask of the objects, the layers held to the picture afterwards
(`--fit all`: alphas cut to the context maps, visible colours of the picture), and compared with the true layers by the
LayerD protocol (Suzuki et al. 2025) before any merge. The last column is how far the sampled global row is from the picture's
latent, as a share of its norm."""),
    "merges": ("Decomposition after merges", "The protocol allows up to five merges of neighbouring layers."),
    "round_trip": ("Round trips", """\
Inverted and sampled back by the same model under the same prompts and mask, in fp32: relative error of the global row, on
{round_trips} scenes."""),
    "moved": ("Moved objects", """\
The nearest object of true layers moved by up to a third of the picture's width, against the scene in which it stands there.
The object is measured where it is seen, shadows by mean absolute difference on the ground. A plain paste has the object's true
pixels, but for its edges; no method that decodes latents can be nearer than the VAE. *Effects* are layers between background and objects that
went with their object; no model looks at the picture again."""),
    "completed": ("Completion", """\
Mean absolute difference to the truth where an edit reveals what was hidden. Objects on gray; of three-layer scenes in which
one object, moved there for this, hides enough of the other."""),
    "kept": ("Layers to layers", "Largest absolute change over all other layers, and over all timesteps of their latents."),
    "recomposed": ("Recomposition", """\
Stack and effects in eight bits against the picture with shadows: of {recompositions} true scenes, and of {samples}
harmonised ones."""),
}
_LAYER_TILES = ("picture", "background", "object 1", "object 2", "composite", "global row")
_EDIT_TILES = ("before", "truth after", "paste", "IRH", "effects of the truth", "effects of IRH", "truth through the VAE")
_GRIDS = (
    (decomposition_name(InversionConfig.method, True), _LAYER_TILES, "Taken apart with the mask"),
    (decomposition_name(InversionConfig.method, False), _LAYER_TILES, "Taken apart without the mask"),
    ("as_sampled", _LAYER_TILES, "The same, layers as they were sampled"),
    ("as_sampled_unmasked", _LAYER_TILES, "The same without the mask"),
    ("thresholded_maps", _LAYER_TILES, "Thresholded context maps"),
    ("moved_irh", _EDIT_TILES, "Moved objects"),
    ("completed_ground_drawn", ("filled smoothly", "drawn", "truth"), "Ground that an object has hidden"),
    ("completed_object_drawn", ("cut out", "drawn", "truth"), "Objects that others have hidden"),
)
assert len(_EDIT_TILES) == len(EDITED) + 2


def _heading(metric: str) -> str:
    shown = EDIT_METRICS[metric]
    return shown.title + _ARROWS[shown.better]


def _table(section: Section) -> str:
    metrics = [m for m in section.metrics if any(m in row.metrics for row in section.rows)]
    body = [[row.title, *(cell(row.metrics.get(m), EDIT_METRICS[m].digits) for m in metrics)]
            for row in section.rows if row.metrics]
    return markdown_table(["", *map(_heading, metrics)], body)


def _masking(results: EditResults) -> str:
    metrics = [m for m in EDIT_METRICS if any(m in c.metrics for c in results.comparisons)]
    body = [[c.title, *(change_cell(c.metrics.get(m), EDIT_METRICS[m].digits) for m in metrics)] for c in results.comparisons]
    return markdown_table(["", *map(_heading, metrics)], body)


def _page(results: EditResults, grids: Sequence[tuple[str, str]]) -> str:
    sections = [
        _INTRODUCTION.format_map(results.settings),
        "## Goals\n\n" + goal_table([(goal.text, goal.measured, goal.reached) for goal in results.goals])]
    for section in results.sections:
        title, text = _SECTIONS[section.name]
        sections.append(f"## {title}\n\n{text.format_map(results.settings)}\n\n{_table(section)}")
        if section.name == "decomposition":
            sections.append(
                "### What the mask and the fit add\n\nDifferences on the same scenes (the mask: App. E, Eq. 14-16); bold where the "
                "interval leaves 0 out.\n\n" + _masking(results))
    if grids:
        pictures = "\n".join(f"{title}\n\n![{title}]({name})\n" for name, title in grids)
        prompts = "\n".join(f"- {seed}: {' · '.join(texts)}" for seed, texts in results.prompts.items())
        sections.append(f"## Pictures\n\n{pictures}\nPrompts, a scene a line:\n\n{prompts}\n")
    return "\n".join(sections)


def write_edit_report(results: EditResults, pictures: Path, folder: Path) -> None:
    """Write ``edits.md`` and its picture grids (JPEG) into ``folder``, from the strips in ``pictures``. Raises OutputError."""
    grids: list[tuple[str, str]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, titles, title in _GRIDS:
            strips = [pictures / name / f"{int(seed):04d}.png" for seed in results.prompts]
            rows = [tiles for strip in strips if (tiles := strip_tiles(strip, len(titles)))]
            if rows:
                grid = f"edits-{name.replace('_', '-')}.jpg"
                draw_grid(rows, titles, folder / grid)
                grids.append((grid, title))
        (folder / "edits.md").write_text(_page(results, grids), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the report to {folder}: {error}; choose a writable folder") from error
