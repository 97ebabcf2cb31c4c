"""The page about a planner: tables with intervals, the goals, and every sentence that was not planned right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError
from .plans import FIGURES, PLAN_GOALS, Figure, PlanFailure, PlanResults, PlanRow
from .tables import cell, markdown_table

__all__ = ["plan_report", "write_plan_report"]

_OBJECTS: tuple[Figure, ...] = ("object_f1", "object_recall", "object_precision", "order", "perfect")
_ATTRIBUTES: tuple[Figure, ...] = ("attributes", "complete", "pure", "number", "clean")
_BACKGROUND: tuple[Figure, ...] = ("background", "background_given", "background_head", "whole")
_INTRODUCTION = """\
# Sentences to layer plans

Planner: {planner}{limit}; {count} sentences of the {split} split, in English unless said otherwise. Shares with 95 % intervals,
bootstrapped over sentences. What counts as what stands beside the sentences, in `evaluation/plan_sentences/README.md`.
"""


def _table(rows: Sequence[PlanRow], figures: Sequence[Figure]) -> str:
    body = [[row.title, str(row.sentences), *(cell(row.figures.get(f)) for f in figures)] for row in rows if row.sentences]
    return markdown_table(["", "sentences", *(FIGURES[f] for f in figures)], body)


def _goals(row: PlanRow) -> str:
    body: list[list[str]] = []
    for figure, goal in PLAN_GOALS.items():
        found = row.figures.get(figure)
        reached = found is not None and found.mean >= goal
        body.append([f"{FIGURES[figure]} ≥ {goal}", cell(found), "yes" if reached else "**no**"])
    return markdown_table(["goal, in English", "measured", "reached"], body)


def _code(text: str) -> str:
    """One line of code in Markdown, whatever the text holds."""
    return "`` " + " ".join(text.replace("`", "'").split()) + " ``"


def _failure(failure: PlanFailure) -> str:
    planned = "nothing" if failure.plan is None else " / ".join(
        (failure.plan.background, *(layer.prompt for layer in failure.plan.foregrounds)))
    remarks = "".join(f"  - {_code(remark)}\n" for remark in failure.remarks)
    return f"- {failure.id}: {_code(failure.sentence)}\n  - planned: {_code(planned)}\n{remarks}"


def plan_report(results: PlanResults) -> str:
    """The results as Markdown."""
    rows = (results.english, *results.kinds, *results.languages)
    sentences = results.english.sentences + sum(row.sentences for row in results.languages)
    limit = "" if results.limit is None else f", at most {results.limit} foregrounds"
    sections = [
        _INTRODUCTION.format(planner=results.planner, limit=limit, split=results.split, count=sentences),
        "## Goals\n\n" + _goals(results.english),
        "## Objects and order\n\n" + _table(rows, _OBJECTS),
        "## Attributes\n\nOf the layers that were matched.\n\n" + _table(rows, _ATTRIBUTES),
        "## Background and whole prompt\n\n" + _table(rows, _BACKGROUND),
        f"## Not right\n\n{len(results.failures)} of {sentences} sentences.\n\n" + "".join(map(_failure, results.failures)),
    ]
    return "\n".join(sections)


def write_plan_report(results: PlanResults, folder: Path) -> Path:
    """Write ``plans-{split}.md`` into ``folder`` and return its path. Raises OutputError."""
    path = folder / f"plans-{results.split}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(plan_report(results), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}; choose a writable folder") from error
    return path
