"""From records of single scenes to the figures of a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import OutputError
from .configurations import BOTH, FAST_HARMONIZED, HARMONIZED, Configuration
from .frechet import frechet_distance, frechet_error
from .intervals import Estimate, difference, estimate
from .records import Record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["METRICS", "Comparison", "Goal", "Metric", "Results", "Row", "compare", "differences", "estimates", "goals", "make_row",
           "write_results"]

FEATURES = ("picture", "background", "foreground")
_COMPARED = ("layer_object", "placed", "found", "alpha_iou", "overlap", "purity", "psnr", "shadow", "foot_error")
_PAIRS = (  # what is added, from, to
    ("adding CACA to LSSA", "lssa", BOTH),
    ("adding LSSA to CACA", "caca", BOTH),
    ("adding both", "neither", BOTH),
    ("adding CACA to LSSA of Eq. 10-11 alone", "lssa_paper", "both_paper"),
    ("adding IRH", BOTH, HARMONIZED),
    ("the fast preset", HARMONIZED, FAST_HARMONIZED),
    ("training", "training_free", BOTH),
)
_ADDED = (("adding CACA to LSSA", "placed"), ("adding LSSA to CACA", "alpha_iou"), ("adding IRH", "shadow"))  # each part's goal


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; ``better`` is the direction, None where neither is."""

    title: str
    better: Literal["higher", "lower"] | None
    digits: int = 3


METRICS: dict[str, Metric] = {
    "layer_kind": Metric("kind of the layer", "higher"),
    "layer_color": Metric("colour of the layer", "higher"),
    "layer_object": Metric("object of the layer", "higher"),
    "placed": Metric("object in its place", "higher"),
    "found": Metric("object in the global picture", "higher"),
    "alpha_iou": Metric("alpha IoU", "higher"),
    "overlap": Metric("overlap", "lower"),
    "purity": Metric("background purity", "higher"),
    "psnr": Metric("PSNR of composite and global, dB", "higher", 2),
    "shadow": Metric("objects with a shadow", "higher"),
    "foot_error": Metric("error where shadows fall", "lower", 4),
    "kept": Metric("PSNR to the first line, dB", "higher", 2),
    "fid_picture": Metric("FID of pictures", "lower", 4),
    "fid_background": Metric("FID of backgrounds", "lower", 4),
    "fid_foreground": Metric("FID of foregrounds", "lower", 4),
    "shadow_error": Metric("error in the shadow's region", "lower", 4),
}


@dataclass(frozen=True)
class Row:
    """One configuration: an estimate a metric; those that it has no meaning for are missing."""

    name: str
    title: str
    scenes: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """What changed from one configuration to another on the same scenes."""

    title: str
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Goal:
    """A goal, what was measured, and whether it was reached."""

    text: str
    measured: float | None
    reached: bool


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything an evaluation found."""

    settings: Mapping[str, str]
    classifier: Mapping[str, float]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    goals: Sequence[Goal]
    context_sweep: Sequence[Row]
    harmonization_sweep: Sequence[Row]
    guidance_sweep: Sequence[Row]
    training_free_sweep: Sequence[Row]
    shadow_truth: Sequence[Row]
    prompts: Mapping[str, Sequence[str]]  # of the scenes in the picture grids, by seed


def _features(records: Mapping[int, Record], name: str) -> Tensor:
    return torch.tensor([row for record in records.values() for row in record.features.get(name, ())])


def _distance(features: Tensor, reference: Tensor) -> Estimate | None:
    if min(len(features), len(reference)) < 2:
        return None
    mean, error = frechet_distance(features, reference), frechet_error(features, reference)
    return Estimate(mean, mean - 1.96 * error, mean + 1.96 * error, len(features))


def make_row(
    configuration: Configuration, records: Mapping[int, Record], reference: Mapping[int, Record]
) -> Row:
    """Means, intervals and Fréchet distances (to ``reference``) of one configuration's records."""
    found = estimates(records, METRICS)
    for part in FEATURES:
        distance = _distance(_features(records, part), _features(reference, part))
        if distance is not None:
            found[f"fid_{part}"] = distance
    return Row(configuration.name, configuration.title, len(records), found)


def estimates(records: Mapping[int, Record], metrics: Iterable[str], *, shares: bool = True) -> dict[str, Estimate]:
    """Means with intervals of those metrics that the records have values of; ``shares`` as of `estimate`."""
    found = {metric: estimate([record.values.get(metric, ()) for record in records.values()], shares=shares)
             for metric in metrics}
    return {metric: value for metric, value in found.items() if value is not None}


def compare(records: Mapping[str, Mapping[int, Record]]) -> list[Comparison]:
    """What every part of the method adds, on scenes that both configurations have."""
    return [
        Comparison(title, differences(records[before], records[after], _COMPARED))
        for title, before, after in _PAIRS if before in records and after in records]


def differences(
    before: Mapping[int, Record], after: Mapping[int, Record], metrics: Iterable[str]
) -> dict[str, Estimate]:
    """What changes from one configuration to another, over the scenes that both have."""
    shared = sorted(before.keys() & after.keys())
    found = {metric: difference(*([side[seed].values.get(metric, ()) for seed in shared] for side in (before, after)))
             for metric in metrics}
    return {metric: value for metric, value in found.items() if value is not None}


def goals(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[Goal]:
    """The goals for held-out prompts, against what was measured: what the whole method reaches, and what every part adds."""
    wanted: tuple[tuple[str, str, Literal["higher", "lower"], float], ...] = (
        (HARMONIZED, "layer_object", "higher", 0.95),
        (HARMONIZED, "placed", "higher", 0.95),
        (HARMONIZED, "purity", "higher", 0.95),
        (HARMONIZED, "alpha_iou", "higher", 0.80),
        (HARMONIZED, "shadow", "higher", 0.80),
        (BOTH, "shadow", "lower", 0.10),
    )
    by_name = {row.name: row for row in rows}
    added = {(c.title, metric): change for c in comparisons for metric, change in c.metrics.items()}
    return [
        *(_goal(by_name[name], metric, better, limit) for name, metric, better, limit in wanted if name in by_name),
        *(Goal(f"{part[0]}: {METRICS[part[1]].title}, difference above chance", added[part].mean, added[part].low > 0)
          for part in _ADDED if part in added),
    ]


def _goal(row: Row, metric: str, better: Literal["higher", "lower"], limit: float) -> Goal:
    estimated = row.metrics.get(metric)
    text = f"{row.title}: {METRICS[metric].title} {'≥' if better == 'higher' else '≤'} {limit:.2f}"
    if estimated is None:
        return Goal(text, None, False)
    reached = estimated.mean >= limit if better == "higher" else estimated.mean <= limit
    return Goal(text, estimated.mean, reached)


def write_results(results: DataclassInstance, path: Path) -> None:
    """Write every figure as JSON, whole or not at all. Raises OutputError."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}; choose a writable folder") from error
