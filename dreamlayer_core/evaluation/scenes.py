"""`dreamlayer evaluate scenes`: every part of the method on and off, on scenes held out from training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..composite import gray_fill
from ..config import GuidanceInterval, HarmonizationConfig
from ..errors import InputError
from ..pipeline import DreamLayer
from ..scenes import Scene, make_scene
from .classifier import SceneClassifier, load_classifier
from .configurations import (
    BOTH,
    CONFIGURATIONS,
    HARMONIZED,
    TRUE_PLAIN,
    TRUE_SCENE,
    Configuration,
    context_sweep,
    guidance_sweep,
    harmonization_sweep,
    training_free_sweep,
)
from .generation import Sampler
from .jobs import Progress, RunOptions, run_jobs, weights_digest
from .metrics import composite_psnr, measure
from .pictures import LayeredPicture, true_pictures, wanted_objects
from .records import Record, RecordStore
from .report import write_report
from .results import Results, Row, compare, goals, make_row, write_results
from .shadows import shadow_error
from .strips import save_strip

__all__ = ["EvaluationOptions", "Part", "evaluate", "evaluate_scenes", "held_out_scene"]

_BLOCK = 8  # scenes with consecutive seeds have equally many foregrounds, so that they fit one batch
_COUNTS = 4  # foregrounds: 1 to this many
_REFERENCE_SEED = 700_000  # of the true scenes that Fréchet distances are taken to
_TRUE = (Configuration(name=TRUE_SCENE, title="true scene"), Configuration(name=TRUE_PLAIN, title="true layers, composited"))
_BY_NAME = {configuration.name: configuration for configuration in CONFIGURATIONS}
_SHADOWS = (Configuration(name="shadow_composite", title="composite of the true layers"),
            Configuration(name="shadow_harmonized", title="IRH of the true layers"),
            Configuration(name="shadow_autoencoder", title="true scene through the VAE"))

Part = Literal["truth", "harmonization", "methods", "context", "training-free", "guidance"]
"""The true scenes, T_H and T'_H, the method's parts on and off, T_G, the same without an adapter, the interval of guidance."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(RunOptions):
    """What to evaluate, and how much of it."""

    samples: int = 200
    sweep_samples: int = 48
    parts: tuple[Part, ...] = get_args(Part)
    context_thresholds: tuple[int, ...] = (1000, 950, 850, 700, 500, 0)  # T_G; 1000 is never, 0 always
    harmonization: tuple[tuple[int, int], ...] = ((0, 0), (200, 0), (400, 200), (600, 400), (800, 600))  # Table 4
    guidance_intervals: tuple[GuidanceInterval, ...] = (
        (0, 1000), (200, 800), (400, 800), (500, 900), (600, 1000))
    reference: int = 400  # true scenes that Fréchet distances are taken to
    grid: int = 8  # scenes in the picture grids

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := set(self.parts) - set(get_args(Part)):
            raise InputError(f"got the part {min(unknown)!r}; give one of {', '.join(get_args(Part))}")
        if self.samples < 2 or self.reference < 2:
            raise InputError(f"got {self.samples} samples and {self.reference} reference scenes; give at least 2 of each")


def held_out_scene(seed: int, size: tuple[int, int]) -> Scene:
    """The test scene of a seed; seeds of one block of eight have equally many foregrounds, 1 to 4 by turns."""
    return make_scene(seed, foregrounds=1 + seed // _BLOCK % _COUNTS, size=size, split="test")


def evaluate_scenes(options: EvaluationOptions) -> Results:
    """Load the model, evaluate it, and write the figures, a report and picture grids (``out/report``)."""
    classifier, validation = load_classifier()
    model = DreamLayer.from_files(options.model)
    if model.adapter is None:
        raise InputError(f"{options.model} has no adapter; there is nothing of the method to evaluate")
    results = evaluate(model, classifier, options, validation)
    write_results(results, options.json or options.out / "report" / "scenes.json")
    write_report(results, options.out / "pictures", options.out / "report")
    return results


def evaluate(
    model: DreamLayer, classifier: SceneClassifier, options: EvaluationOptions, validation: Mapping[str, float]
) -> Results:
    """Measure every configuration, going on from the records in ``options.out``, and put the figures together."""
    settings = _settings(model, classifier, options)
    run = _Run(model, classifier, options, RecordStore(options.out / "records", settings))
    run_jobs(run.jobs())
    return run.results(settings | {"samples": str(options.samples), "sweep_samples": str(options.sweep_samples)}, validation)


def _settings(model: DreamLayer, classifier: SceneClassifier, options: EvaluationOptions) -> dict[str, str]:
    parts = (model.unet, model.vae, *model.text_encoders.models, model.decoder, model.adapter)
    return {
        "model": weights_digest(*parts), "classifier": weights_digest(classifier), "steps": str(options.steps),
        "guidance": options.guidance_text, "seed": str(options.seed), "views": str(options.views),
        "precision": "bf16" if options.half else "fp32",
        "size": "x".join(map(str, model.default_size))}


class _Run:
    """One evaluation: jobs that fill the store, and the figures in it."""

    def __init__(
        self, model: DreamLayer, classifier: SceneClassifier, options: EvaluationOptions, store: RecordStore
    ) -> None:
        self.classifier, self.options, self.store, self.size = classifier, options, store, model.default_size
        self.sampler = Sampler(model=model, sampling=options.sampling, seed=options.seed, views=options.views, half=options.half)
        counts = range(min(options.samples, _BLOCK * _COUNTS))
        # Scenes of one, two, three and four foregrounds by turns.
        self.shown = sorted(counts, key=lambda seed: (seed % _BLOCK, seed))[: options.grid]
        self.context = context_sweep(options.context_thresholds)
        self.training_free = training_free_sweep(options.context_thresholds)
        self.harmonization = harmonization_sweep(options.harmonization)
        self.guidance = guidance_sweep(options.guidance_intervals)

    @property
    def sweep_samples(self) -> int:
        return min(self.options.sweep_samples, self.options.samples)

    def jobs(self) -> Iterator[tuple[str, Progress]]:
        """Titles and work of the parts that were asked for."""
        parts = {"truth": self._truth_jobs, "harmonization": self._harmonization_jobs, "methods": self._method_jobs,
                 "context": lambda: self._sweep_jobs(self.context),
                 "training-free": lambda: self._sweep_jobs(self.training_free),
                 "guidance": lambda: iter([("guidance interval", self._guidance())])}
        for part, jobs in parts.items():
            if part in self.options.parts:
                yield from jobs()

    def _truth_jobs(self) -> Iterator[tuple[str, Progress]]:
        yield "reference scenes", self._reference()
        yield "true scenes", self._truth()

    def _harmonization_jobs(self) -> Iterator[tuple[str, Progress]]:
        # One sampling of the layers serves every way of harmonising them.
        ways = {c.name: c for c in (_BY_NAME[HARMONIZED], *self.harmonization) if c.name != BOTH}
        yield "T_H, T'_H", self._generate(_BY_NAME[BOTH], tuple(ways.values()), self.sweep_samples)
        yield "IRH of true layers", self._shadow_truth()

    def _method_jobs(self) -> Iterator[tuple[str, Progress]]:
        for configuration in CONFIGURATIONS:
            if configuration.name != HARMONIZED:
                more = [_BY_NAME[HARMONIZED]] if configuration.name == BOTH else []
                yield configuration.title, self._generate(configuration, more, self.options.samples)

    def _sweep_jobs(self, sweep: Sequence[Configuration]) -> Iterator[tuple[str, Progress]]:
        for configuration in sweep:
            yield configuration.title, self._generate(configuration, (), self.sweep_samples)

    def _missing(self, names: Sequence[str], seeds: range) -> Iterator[tuple[list[Scene], int]]:
        """Batches of scenes that any of the configurations lacks, and how many seeds lie behind each."""
        for start in range(seeds.start, seeds.stop, _BLOCK):
            block = range(start, min(start + _BLOCK, seeds.stop))
            lacking = [s for s in block if any(s not in self.store.records(name) for name in names)]
            if lacking:  # from the first one on: seeds of a batch are consecutive
                scenes = [held_out_scene(s, self.size) for s in range(lacking[0], block.stop)]
                yield scenes, block.stop - seeds.start

    def _reference(self) -> Progress:
        seeds = range(_REFERENCE_SEED, _REFERENCE_SEED + self.options.reference)
        for scenes, done in self._missing(["reference"], seeds):
            records = {s.seed: Record({}, self._features(true_pictures(s)[0])) for s in scenes}
            self.store.add("reference", records)
            yield done, len(seeds)

    def _truth(self) -> Progress:
        for scenes, done in self._missing([TRUE_SCENE, TRUE_PLAIN], range(self.options.samples)):
            pairs = [true_pictures(scene) for scene in scenes]
            for index, name in enumerate((TRUE_SCENE, TRUE_PLAIN)):
                self._keep(name, scenes, [pair[index] for pair in pairs])
            yield done, self.options.samples

    def _generate(self, configuration: Configuration, more: Sequence[Configuration], samples: int) -> Progress:
        names = [c.name for c in (configuration, *more)]
        for scenes, done in self._missing(names, range(samples)):
            for name, pictures in self.sampler.pictures(scenes, configuration, more).items():
                self._keep(name, scenes, pictures)
            yield done, samples

    def _guidance(self) -> Progress:
        """All of them for one batch after another, as each is compared with the first."""
        for scenes, done in self._missing([c.name for c in self.guidance], range(self.sweep_samples)):
            made = {c.name: self.sampler.pictures(scenes, c)[c.name] for c in self.guidance}
            first = next(iter(made.values()))
            for name, pictures in made.items():
                kept = [{} if one is other else {"kept": composite_psnr(one.final, other.final)}
                        for one, other in zip(pictures, first, strict=True)]
                self._keep(name, scenes, pictures, kept)
            yield done, self.sweep_samples

    def _shadow_truth(self) -> Progress:
        names = [c.name for c in _SHADOWS]
        for scenes, done in self._missing(names, range(self.sweep_samples)):
            for part, pictures in self.sampler.harmonized_truth(scenes, HarmonizationConfig()).items():
                pairs = zip(scenes, pictures, strict=True)
                self.store.add(f"shadow_{part}", {s.seed: _shadow_record(s, picture) for s, picture in pairs})
            yield done, self.sweep_samples

    def _keep(
        self, name: str, scenes: Sequence[Scene], pictures: Sequence[LayeredPicture],
        more: Sequence[dict[str, list[float]]] | None = None,
    ) -> None:
        records: dict[int, Record] = {}
        for scene, picture, known in zip(scenes, pictures, more or [{}] * len(scenes), strict=True):
            values = measure(self.classifier, picture, wanted_objects(scene)) | known
            records[scene.seed] = Record(values, self._features(picture))
            if scene.seed in self.shown:
                save_strip(picture, self.options.out / "pictures" / name, scene.seed)
        self.store.add(name, records)

    def _features(self, picture: LayeredPicture) -> dict[str, list[list[float]]]:
        parts = {"picture": picture.final[None]}
        if picture.background is not None and picture.colors is not None and picture.alphas is not None:
            parts["background"] = picture.background[None]
            parts["foreground"] = gray_fill(picture.colors, picture.alphas[:, None])
        return {name: _rows(self.classifier.features(pictures)) for name, pictures in parts.items()}

    def results(self, settings: Mapping[str, str], validation: Mapping[str, float]) -> Results:
        """All figures. Sweeps are on their own, smaller set of scenes."""
        samples, few = self.options.samples, self.sweep_samples
        rows = [self._row(c, samples) for c in (*_TRUE, *CONFIGURATIONS)]
        comparisons = compare({c.name: self._records(c.name, samples) for c in CONFIGURATIONS})
        prompts = {str(s): _prompts(held_out_scene(s, self.size)) for s in self.shown}
        return Results(
            settings=settings, classifier=validation, rows=rows, goals=goals(rows, comparisons), comparisons=comparisons,
            context_sweep=[self._row(c, few) for c in self.context],
            harmonization_sweep=[self._row(c, few) for c in self.harmonization],
            guidance_sweep=[self._row(c, few) for c in self.guidance],
            training_free_sweep=[self._row(c, few) for c in self.training_free],
            shadow_truth=[self._row(c, few) for c in _SHADOWS], prompts=prompts)

    def _records(self, name: str, samples: int) -> dict[int, Record]:
        return {seed: record for seed, record in sorted(self.store.records(name).items()) if seed < samples}

    def _row(self, configuration: Configuration, samples: int) -> Row:
        last = _REFERENCE_SEED + self.options.reference
        reference = {s: r for s, r in self.store.records("reference").items() if s < last}
        return make_row(configuration, self._records(configuration.name, samples), reference)


def _shadow_record(scene: Scene, picture: Tensor) -> Record:
    truth, _ = true_pictures(scene)
    error = shadow_error(picture, truth.whole, torch.from_numpy(scene.shadows), torch.from_numpy(scene.alphas))
    return Record({"shadow_error": [] if error is None else [error]})


def _rows(features: Tensor) -> list[list[float]]:
    return [[float(value) for value in row] for row in features]


def _prompts(scene: Scene) -> list[str]:
    return [scene.background_caption, *(item.caption for item in scene.objects)]
