"""Training the scene classifier, on scenes of the training split, and measuring it on those held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ..errors import InputError
from ..scenes.shapes import FloatArray
from ..training.data import SceneCache
from ..training.loop import LoopConfig, processes, train
from ..training.options import TrainOptions
from ..training.sheets import picture_sheet
from .classifier import COLOR_NAMES, KIND_NAMES, NONE, SceneClassifier, save_classifier
from .validation import validate_classifier

__all__ = ["ClassifierStage", "train_classifier"]

_Batch = tuple[Tensor, Tensor, Tensor]


class _ClassifierLoss(nn.Module):
    """Cross-entropy with the share of every kind in a cell, and of every colour where there is an object."""

    def __init__(self, model: SceneClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: _Batch) -> dict[str, Tensor]:
        pictures, kinds, colors = batch
        logits, color_logits = (part.float() for part in self.model.logits(pictures))
        kind, given_object, color = (part.log_softmax(1) for part in (logits, logits[:, :NONE], color_logits))
        shown = colors.sum(1)
        kind_loss = -(kinds * kind).sum(1).mean()
        color_loss = -(colors * color).sum() / shown.sum().clamp(min=1)
        # Given that there is an object: weighting it more must not make objects larger.
        object_loss = -(kinds[:, :NONE] * given_object).sum() / shown.sum().clamp(min=1)
        right = ((kind[:, :NONE].argmax(1) == kinds[:, :NONE].argmax(1)) & (color.argmax(1) == colors.argmax(1))).float()
        accuracy = (right * shown).sum() / shown.sum().clamp(min=1)
        return {"loss": kind_loss + 0.3 * object_loss + 0.3 * color_loss, "kind": kind_loss.detach(),
                "color": color_loss.detach(), "accuracy": accuracy.detach()}


def _over(picture: FloatArray, rgba: FloatArray) -> FloatArray:
    alpha = rgba[..., 3:]
    return (picture * (1 - alpha) + rgba[..., :3] * alpha).astype(np.float32)


def _degrade(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Generated pictures are softer, noisier and off in brightness: so are these, some of them."""
    size = pictures.shape[-2:]
    if rng.random() < 0.5:
        small = interpolate(pictures, scale_factor=float(rng.uniform(0.3, 0.8)), mode="area")
        pictures = interpolate(small, size, mode="bilinear")
    shape = (len(pictures), 1, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, shape).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
    level = torch.from_numpy((rng.random(shape) ** 2 * 0.06).astype(np.float32))
    return (pictures * gain + noise * level).clamp(0, 1)


class ClassifierStage:
    """Whole scenes; foregrounds over another scene's background without shadows; backgrounds; single layers on gray."""

    def __init__(self, cache: SceneCache, *, validation_scenes: int = 100) -> None:
        self.cache, self.validation_scenes = cache, validation_scenes
        self.model = SceneClassifier()
        self.module: nn.Module = _ClassifierLoss(self.model)

    def _example(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, list[tuple[str, str]]]:
        """Picture (h, w, 3), alphas (f, h, w) bottom to top, and kind and colour of each."""
        index, form = int(rng.integers(len(self.cache))), rng.random()
        first, last = int(self.cache.first[index]), int(self.cache.first[index + 1])
        names = [(str(o[0]), str(o[1])) for o in self.cache.records[index]["objects"]]
        if 0.70 < form < 0.95 and names:  # a single layer on gray
            chosen = int(rng.integers(len(names)))
            first, last, names = first + chosen, first + chosen + 1, [names[chosen]]
        if form >= 0.95:
            last, names = first, []
        objects = (self.cache.objects[first:last] / np.float32(255)).astype(np.float32)
        if form < 0.45:
            picture = self.cache.pictures[index] / np.float32(255)
        else:
            other = self.cache.backgrounds[int(rng.integers(len(self.cache)))] / np.float32(255)
            picture = other if form < 0.70 or not names else np.full_like(other, 0.5)
            for rgba in objects:
                picture = _over(picture, rgba)
        return picture, objects[..., 3], names

    def batch(self, generator: torch.Generator, size: int) -> _Batch:
        """Pictures (n, 3, h, w) and the shares of kinds (n, kinds + 1, h/2, w/2) and colours (n, colors, h/2, w/2)."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        examples = [self._example(rng) for _ in range(size)]
        pictures = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p, _, _ in examples])
        targets = torch.stack([cell_shares(torch.from_numpy(alphas), names) for _, alphas, names in examples])
        flip = torch.from_numpy(rng.random((size, 1, 1, 1)) < 0.5)
        pictures, targets = (torch.where(flip, x.flip(-1), x) for x in (pictures, targets))
        pictures = _degrade(pictures, rng).contiguous(memory_format=torch.channels_last)
        return pictures, targets[:, : NONE + 1], targets[:, NONE + 1 :]

    def sample(self, path: Path) -> None:
        """A sheet of pictures, where the net sees objects, and where they are."""
        pictures, kinds, _ = self.batch(torch.Generator().manual_seed(1), 8)
        seen = self.model(pictures).present[:, None].expand_as(pictures)
        truth = interpolate(1 - kinds[:, NONE:], pictures.shape[-2:]).expand_as(pictures)
        picture_sheet([pictures, seen, truth], path, title="pictures, objects found, objects")

    def export(self, folder: Path) -> None:
        """Write the weights with their accuracy on held-out scenes."""
        figures = validate_classifier(self.model, self.validation_scenes)
        save_classifier(self.model, folder / "classifier.safetensors", validation=figures)


def cell_shares(alphas: Tensor, names: list[tuple[str, str]]) -> Tensor:
    """Alphas (f, h, w) of objects bottom to top -> visible shares (kinds + 1 + colors, h/2, w/2) of every cell."""
    shares = alphas.new_zeros(NONE + 1 + len(COLOR_NAMES), *(side // 2 for side in alphas.shape[-2:]))
    above = alphas.new_ones(alphas.shape[-2:])
    for alpha, (kind, color) in zip(alphas.flip(0), reversed(names), strict=True):
        cell = avg_pool2d((alpha * above)[None], 2)[0]
        shares[KIND_NAMES.index(kind)] += cell
        shares[NONE + 1 + COLOR_NAMES.index(color)] += cell
        above = above * (1 - alpha)
    shares[NONE] = avg_pool2d(above[None], 2)[0]
    return shares


def train_classifier(options: TrainOptions, *, validation_scenes: int = 100) -> Path:
    """Train on the rendered scenes in ``options.data``: 25 minutes on two cores. 4000 steps, ten minutes, find 95 % of true
    objects in their place, 9000 steps 97 %.

    Returns the file written, ``out/export/classifier.safetensors``; the package keeps it as ``EMBEDDED_CLASSIFIER``.
    Raises InputError for a model folder: it is trained on true scenes alone.
    """
    if options.model is not None:
        raise InputError(f"got --model {options.model} for the classifier, which is trained on scenes alone; leave it out")
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(options.seed)  # of the first weights
        with processes().main_process_first():  # it unpacks once, and the other processes read
            cache = SceneCache(options.data)
        stage = ClassifierStage(cache, validation_scenes=validation_scenes)
    train(stage, LoopConfig(
        out=options.out, steps=options.steps or 9000, learning_rate=options.learning_rate or 3e-3, batch=options.batch or 16,
        ema=0.998, warmup=100, seed=options.seed, precision=options.precision, minutes=options.minutes, save_every=250,
        sample_every=1000, resume=options.resume))
    return options.out / "export" / "classifier.safetensors"
