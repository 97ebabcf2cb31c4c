"""`dreamlayer evaluate edits`: pictures taken apart and layers edited, on held-out scenes whose layers are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from ..config import InversionConfig, InversionMethod
from ..errors import InputError
from ..pipeline import DreamLayer
from ..scenes import Scene
from .edit_measures import EDITED, Editor, Measured, decomposition_name, edit_scene, recomposed
from .edit_report import write_edit_report
from .edit_results import EDIT_METRICS, EditResults, Section, edit_goals
from .intervals import Estimate
from .jobs import Progress, RunOptions, run_jobs, weights_digest
from .pictures import scene_stack, true_pictures
from .records import Record, RecordStore
from .results import Comparison, Row, differences, estimates, write_results
from .strips import save_tiles

__all__ = ["EditOptions", "evaluate_edits", "inversion_methods", "measure_edits"]

_METHODS: tuple[InversionMethod, ...] = get_args(InversionMethod)
_GUIDANCES = (1.0, 7.5)  # of the round trips
_TITLES = {
    "one_layer": "one layer: the picture itself", "thresholded_maps": "thresholded context maps, filled ground",
    "as_sampled": f"{InversionConfig.method}, masked, layers as they were sampled",
    "as_sampled_unmasked": f"{InversionConfig.method}, not masked, layers as they were sampled",
    "moved_paste": "plain paste", "moved_irh": "harmonised again (IRH)",
    "moved_effects_true": "effects of the true picture, moved", "moved_effects_irh": "effects of the harmonised picture, moved",
    "moved_autoencoder": "true result through the VAE",
    "completed_ground_smooth": "ground under the object, filled smoothly",
    "completed_ground_drawn": "ground under the object, drawn by its prompt",
    "completed_object_empty": "hidden part of an object, left out",
    "completed_object_drawn": "hidden part of an object, drawn by its prompt",
    "regenerated": "an object drawn anew", "ground_replaced": "the background drawn anew", "added": "a layer added",
    "recomposed_true": "true picture", "recomposed_irh": "harmonised picture (IRH)",
    **{f"round_trip_{method}": method for method in _METHODS},
    **{decomposition_name(method, masked): f"{method}, {'masked' if masked else 'not masked'}"
       for method in _METHODS for masked in (True, False)}}
_MASKED = decomposition_name(InversionConfig.method, True)
# What the runs of the default inversion measure besides their own.
_BESIDES = {_MASKED: ("as_sampled", "thresholded_maps"), decomposition_name(InversionConfig.method, False): ("as_sampled_unmasked",)}
_PARTS = ("iou_0", "l1_0", "ground_l1", "psnr")
_MOVED = tuple(f"moved_{name}" for name in EDITED)
_GROUND = ("completed_ground_smooth", "completed_ground_drawn")
_OBJECT = ("completed_object_empty", "completed_object_drawn")
_KEPT = ("regenerated", "ground_replaced", "added")


@dataclass(frozen=True, kw_only=True)
class EditOptions(RunOptions):
    """What to evaluate, and how much of it; round trips are in fp32 always."""

    samples: int = 64
    methods: tuple[InversionMethod, ...] = _METHODS  # a fixed point takes as long as all others together
    round_trips: int = 8  # scenes; in fp32, and fixed points take many calls of the model
    recompositions: int = 200  # true pictures; they need no model
    grid: int = 6  # scenes in the picture grids

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.samples, self.round_trips, self.recompositions) < 2:
            raise InputError(
                f"got {self.samples} samples, {self.round_trips} round trips and {self.recompositions} recompositions; "
                "give at least 2 of each")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise InputError(f"got inversions by {self.methods}; give some of {', '.join(_METHODS)}, each once")


def inversion_methods(names: Sequence[str]) -> tuple[InversionMethod, ...]:
    """The inversions of these names; all for none. Raises InputError for an unknown name."""
    if unknown := [name for name in names if name not in _METHODS]:
        raise InputError(f"got an inversion by {unknown[0]!r}; give one of {', '.join(_METHODS)}")
    return tuple(method for method in _METHODS if method in names) or _METHODS


def evaluate_edits(options: EditOptions) -> EditResults:
    """Load the model, evaluate it, and write the figures, a report and picture grids (``out/report``)."""
    results = measure_edits(DreamLayer.from_files(options.model), options)
    write_results(results, options.json or options.out / "report" / "edits.json")
    write_edit_report(results, options.out / "pictures", options.out / "report")
    return results


def measure_edits(model: DreamLayer, options: EditOptions) -> EditResults:
    """Measure everything, going on from the records in ``options.out``, and put the figures together."""
    settings = _settings(model, options)
    run = _Run(model, options, RecordStore(options.out / "records", settings))
    run_jobs(run.jobs())
    counts = {name: str(getattr(options, name)) for name in ("samples", "round_trips", "recompositions")}
    return run.results({**settings, **counts})


def _settings(model: DreamLayer, options: EditOptions) -> dict[str, str]:
    parts = (model.unet, model.vae, *model.text_encoders.models, model.decoder, model.adapter)
    return {
        "model": weights_digest(*parts), "steps": str(options.steps), "guidance": options.guidance_text,
        "seed": str(options.seed), "views": str(options.views), "precision": "bf16" if options.half else "fp32",
        "size": "x".join(map(str, model.default_size))}


class _Run:
    """One evaluation: jobs that fill the store, and the figures in it."""

    def __init__(self, model: DreamLayer, options: EditOptions, store: RecordStore) -> None:
        self.options, self.store, self.size = options, store, model.default_size
        self.editor = Editor(model=model, sampling=options.sampling, seed=options.seed, views=options.views, half=options.half)
        self.shown = range(min(options.samples, options.grid))

    def jobs(self) -> Iterator[tuple[str, Progress]]:
        """Titles and work, cheap ones first."""
        editor, samples = self.editor, self.options.samples
        yield "recomposition of true pictures", self._measure(
            ["recomposed_true"], self.options.recompositions,
            lambda scene: {"recomposed_true": recomposed(scene_stack(scene), true_pictures(scene)[0].whole)})
        yield "one layer", self._measure(["one_layer"], samples, editor.baseline)
        yield "moved objects", self._measure([*_MOVED, "recomposed_irh"], samples, editor.moved)
        yield "completed ground", self._measure(_GROUND, samples, editor.completed_ground)
        yield "completed objects", self._measure(_OBJECT, samples, editor.completed_object)
        yield "layers drawn anew", self._measure(_KEPT, samples, editor.kept)
        for method in sorted(self.options.methods, key=_METHODS.index, reverse=True):  # the default first
            for masked in (True, False):
                yield self._decomposition(method, masked)
        for method in self.options.methods:
            yield f"round trip, {method}", self._round_trip(method)

    def _decomposition(self, method: InversionMethod, masked: bool) -> tuple[str, Progress]:
        name = decomposition_name(method, masked)
        return _TITLES[name], self._measure(
            [name, *_BESIDES.get(name, ())], self.options.samples, lambda scene: self.editor.decomposed(scene, method, masked))

    def _round_trip(self, method: InversionMethod) -> Progress:
        return self._measure(
            [f"round_trip_{method}"], self.options.round_trips,
            lambda scene: self.editor.round_trip(scene, method, _GUIDANCES))

    def _measure(
        self, names: Sequence[str], samples: int, measure: Callable[[Scene], Mapping[str, Measured]]
    ) -> Progress:
        for seed in range(samples):
            if any(seed not in self.store.records(name) for name in names):
                for name, found in measure(edit_scene(seed, self.size)).items():
                    # Pictures first: what has a record is not measured again.
                    if found.tiles and seed in self.shown:
                        save_tiles(found.tiles, self.options.out / "pictures" / name, seed)
                    self.store.add(name, {seed: Record(found.values)})
            yield seed + 1, samples

    def results(self, settings: Mapping[str, str]) -> EditResults:
        """All figures."""
        samples, trips, many = self.options.samples, self.options.round_trips, self.options.recompositions
        methods = self.options.methods
        decomposed = ["one_layer", "thresholded_maps", "as_sampled", "as_sampled_unmasked",
                      *(decomposition_name(m, masked) for m in methods for masked in (True, False))]
        sections = [
            self._section("decomposition", decomposed, samples, (*_PARTS, "drift")),
            self._section("merges", decomposed, samples,
                          [f"{part}_{merges}" for part in ("iou", "l1") for merges in range(1, 6)]),
            self._section("round_trip", [f"round_trip_{m}" for m in methods], trips,
                          [f"round_trip_{g:g}" for g in _GUIDANCES]),
            self._section("moved", _MOVED, samples, ("object_psnr", "new_shadow", "old_shadow")),
            self._section("completed", [*_GROUND, *_OBJECT], samples, ("completion",)),
            self._section("kept", _KEPT, samples, ("pixel_change", "latent_change")),
            self._section("recomposed", ["recomposed_true", "recomposed_irh"], many, ("recomposition", "residual_levels"))]
        comparisons = [
            Comparison(f"masking, {method}", self._differences(
                decomposition_name(method, False), decomposition_name(method, True), _PARTS))
            for method in methods]
        if InversionConfig.method in methods:
            comparisons += [
                Comparison(f"masking, {InversionConfig.method}, layers as they were sampled",
                           self._differences("as_sampled_unmasked", "as_sampled", _PARTS)),
                Comparison("holding the layers to the picture", self._differences("as_sampled", _MASKED, _PARTS)),
                Comparison("against thresholded context maps", self._differences("thresholded_maps", _MASKED, _PARTS))]
        masking = next((c for c in comparisons if c.title == f"masking, {InversionConfig.method}"), Comparison("masking", {}))
        prompts = {str(seed): [scene.background_caption, *(item.caption for item in scene.objects)]
                   for seed in self.shown for scene in [edit_scene(seed, self.size)]}
        return EditResults(
            settings=settings, sections=sections, comparisons=comparisons, prompts=prompts,
            goals=edit_goals({row.name: row for section in reversed(sections) for row in section.rows}, masking, self._worst))

    def _records(self, name: str, samples: int) -> dict[int, Record]:
        return {seed: record for seed, record in sorted(self.store.records(name).items()) if seed < samples}

    def _section(self, name: str, rows: Sequence[str], samples: int, metrics: Sequence[str]) -> Section:
        made: list[Row] = []
        for row in rows:
            records = self._records(row, samples)
            made.append(Row(row, _TITLES[row], len(records), estimates(records, metrics, shares=False)))
        return Section(name=name, metrics=tuple(metrics), rows=made)

    def _differences(self, before: str, after: str, metrics: Sequence[str]) -> dict[str, Estimate]:
        samples = self.options.samples
        return differences(self._records(before, samples), self._records(after, samples), metrics)

    def _worst(self, name: str, metric: str) -> float | None:
        """Of all scenes that were measured."""
        values = [value for record in self.store.records(name).values() for value in record.values.get(metric, ())]
        if not values:
            return None
        return min(values) if EDIT_METRICS[metric].better == "higher" else max(values)
