"""Cells and tables of the Markdown pages that evaluations write."""

from __future__ import annotations

from collections.abc import Sequence

from .intervals import Estimate

__all__ = ["cell", "change_cell", "goal_table", "markdown_table"]


def cell(estimate: Estimate | None, digits: int = 3) -> str:
    """A mean with its interval; a dash for None."""
    if estimate is None:
        return "–"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def change_cell(estimate: Estimate | None, digits: int = 3) -> str:
    """A difference with its sign; bold where the interval leaves zero out."""
    if estimate is None:
        return "–"
    text = f"{estimate.mean:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"
    return f"**{text}**" if estimate.excludes_zero else text


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Lines of a table, ending in a newline."""
    rows = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def goal_table(goals: Sequence[tuple[str, float | None, bool]]) -> str:
    """Goals as (text, what was measured, whether it was reached)."""
    body = [[text, "–" if measured is None else _plain(measured), "yes" if reached else "**no**"]
            for text, measured, reached in goals]
    return markdown_table(["goal", "measured", "reached"], body)


def _plain(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
