"""The figures of `dreamlayer evaluate edits`, and its goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..config import InversionConfig
from .edit_measures import decomposition_name
from .layerd import MERGES
from .results import Comparison, Goal, Metric, Row

__all__ = ["EDIT_METRICS", "EditResults", "Section", "edit_goals"]

def _merges(count: int) -> str:
    return f"{count} merge" if count == 1 else f"{count} merges"


EDIT_METRICS: dict[str, Metric] = {
    **{f"iou_{n}": Metric(f"soft IoU, {_merges(n)}", "higher") for n in range(MERGES + 1)},
    **{f"l1_{n}": Metric(f"L1, {_merges(n)}", "lower", 4) for n in range(MERGES + 1)},
    "ground_l1": Metric("L1 of the background", "lower", 4),
    "psnr": Metric("PSNR of the composite, dB", "higher", 2),
    "drift": Metric("drift of the global row", "lower", 6),
    "round_trip_1": Metric("global row at guidance 1", "lower", 8),
    "round_trip_7.5": Metric("global row at guidance 7.5", "lower", 8),
    "object_psnr": Metric("PSNR of the object, dB", "higher", 2),
    "new_shadow": Metric("error in its new shadow", "lower", 4),
    "old_shadow": Metric("error where its shadow was", "lower", 4),
    "completion": Metric("error of what is revealed", "lower", 4),
    "pixel_change": Metric("largest change of other layers' pixels", "lower", 6),
    "latent_change": Metric("largest change of their latents", "lower", 6),
    "recomposition": Metric("PSNR with effects, dB", "higher", 2),
    "residual_levels": Metric("levels off with the residual", "lower", 1),
}

Worst = Callable[[str, str], float | None]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table: the metrics that are its columns, and its rows."""

    name: str
    metrics: tuple[str, ...]
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class EditResults:
    """Everything the evaluation found; ``prompts`` are of the scenes in the picture grids, by seed."""

    settings: Mapping[str, str]
    goals: Sequence[Goal]
    sections: Sequence[Section]
    comparisons: Sequence[Comparison]
    prompts: Mapping[str, Sequence[str]]


def edit_goals(rows: Mapping[str, Row], masking: Comparison, worst: Worst) -> list[Goal]:
    """The goals against what was measured; ``masking`` is of the default inversion, ``worst`` a metric's worst value of a row."""
    default = rows.get(decomposition_name(InversionConfig.method, True))
    goals = [
        _goal("decomposition: soft IoU at 0 merges ≥ 0.75", _mean(default, "iou_0"), lambda value: value >= 0.75),
        _goal("decomposition: L1 at 0 merges ≤ 0.06", _mean(default, "l1_0"), lambda value: value <= 0.06),
        *(_beyond(masking, metric) for metric in ("iou_0", "l1_0")),
        _goal("new shadow: error of IRH ÷ error of plain pasting < 0.5", _shadow_ratio(rows), lambda value: value < 0.5)]
    goals += [
        _goal(f"recomposition with effects, {rows[name].title}, worst scene ≥ 40 dB", worst(name, "recomposition"),
              lambda value: value >= 40) for name in ("recomposed_true", "recomposed_irh")]
    goals += [
        _goal(f"levels off with the residual, {rows[name].title}, at most 0", worst(name, "residual_levels"),
              lambda value: value == 0) for name in ("recomposed_true", "recomposed_irh")]
    goals += [
        _goal(f"{rows[name].title}: change of other layers at most 0", worst(name, "pixel_change"), lambda value: value == 0)
        for name in ("regenerated", "ground_replaced", "added")]
    goals += [
        _goal(f"round trip by {method} at guidance {guidance}, worst scene ≤ 1e-5",
              worst(f"round_trip_{method}", f"round_trip_{guidance}"), lambda value: value <= 1e-5)
        for method in ("exact", "replay") for guidance in ("1", "7.5")]
    return goals


def _goal(text: str, measured: float | None, reached: Callable[[float], bool]) -> Goal:
    return Goal(text, measured, measured is not None and reached(measured))


def _mean(row: Row | None, metric: str) -> float | None:
    found = None if row is None else row.metrics.get(metric)
    return None if found is None else found.mean


def _beyond(masking: Comparison, metric: str) -> Goal:
    """Whether the mask makes it better by more than chance: the whole interval of the differences lies on one side."""
    found, shown = masking.metrics.get(metric), EDIT_METRICS[metric]
    text = f"masked better than not masked in {shown.title}, beyond the interval (difference)"
    if found is None:
        return Goal(text, None, False)
    return Goal(text, found.mean, found.low > 0 if shown.better == "higher" else found.high < 0)


def _shadow_ratio(rows: Mapping[str, Row]) -> float | None:
    irh, paste = (_mean(rows[name], "new_shadow") for name in ("moved_irh", "moved_paste"))
    return None if irh is None or not paste else irh / paste
