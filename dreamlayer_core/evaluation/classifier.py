"""A small dense classifier of scenes: what kind and colour of object is at every pixel of a picture.

One fully convolutional net serves every metric that has to look: a layer composited on gray, an object in a picture,
a background that should hold none, and the features of the Fréchet distance. Trained by ``classifier_training``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsError
from ..safetensors_files import FORMAT_VERSION, about, parse_settings, read_tensors, write_tensors
from ..scenes import COLORS, KINDS

__all__ = [
    "COLOR_NAMES",
    "EMBEDDED_CLASSIFIER",
    "KIND_NAMES",
    "NONE",
    "ClassifierSettings",
    "DenseScores",
    "SceneClassifier",
    "load_classifier",
    "save_classifier",
]

EMBEDDED_CLASSIFIER = Path(__file__).parent.parent / "embedded" / "classifier.safetensors"
KIND_NAMES, COLOR_NAMES = tuple(KINDS), tuple(COLORS)
NONE = len(KIND_NAMES)  # the kind of a pixel without object
_FORMAT = "dreamlayer-scene-classifier"


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What a file was trained for; the names are joined by commas, in the order of the net's outputs."""

    widths: tuple[int, ...] = (16, 32, 64, 96)
    kinds: str = ",".join(KIND_NAMES)
    colors: str = ",".join(COLOR_NAMES)


@dataclass(frozen=True, eq=False)
class DenseScores:
    """Probabilities at every pixel: ``kind`` (n, kinds + 1, h, w), the last for no object; ``color`` (n, colors, h, w)."""

    kind: Tensor
    color: Tensor

    @property
    def present(self) -> Tensor:
        """Probability (n, h, w) that a pixel shows any object."""
        return 1 - self.kind[:, NONE]


def _convolutions(inputs: int, outputs: int, *, stride: int = 1, count: int = 1) -> nn.Sequential:
    """Convolutions with normalisation over groups, which unlike batch statistics needs no state of its own."""
    layers: list[nn.Module] = []
    for index in range(count):
        step = stride if index == 0 else 1
        layers += [nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, step, 1, bias=False),
                   nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class SceneClassifier(nn.Module):
    """A UNet of four stages (strides 2, 4, 8, 16) with outputs at stride 2; takes pictures of any size from 16 px."""

    def __init__(self, settings: ClassifierSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ClassifierSettings()
        first, second, third, fourth = self.settings.widths
        self.down = nn.ModuleList([
            _convolutions(3, first, stride=2, count=2), _convolutions(first, second, stride=2, count=2),
            _convolutions(second, third, stride=2, count=2), _convolutions(third, fourth, stride=2, count=2)])
        self.up = nn.ModuleList([
            _convolutions(fourth + third, third), _convolutions(third + second, second),
            _convolutions(second + first, second)])
        self.head = nn.Conv2d(second, NONE + 1 + len(COLOR_NAMES), 1)

    def _stages(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, h, w) in [0,1] -> the widest decoder stage (n, c, h/8, w/8) and the last (n, c, h/2, w/2)."""
        skips: list[Tensor] = []
        hidden = pictures * 2 - 1
        for stage in self.down:
            hidden = stage(hidden)
            skips.append(hidden)
        decoded: list[Tensor] = []
        for stage, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            hidden = functional.interpolate(hidden, skip.shape[-2:], mode="nearest")
            hidden = stage(torch.cat([hidden, skip], 1))
            decoded.append(hidden)
        return decoded[0], decoded[-1]

    def logits(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, h, w) in [0,1] -> kind (n, kinds + 1, h/2, w/2) and colour (n, colors, h/2, w/2) logits."""
        both = self.head(self._stages(pictures)[1])
        return both[:, : NONE + 1], both[:, NONE + 1 :]

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> DenseScores:
        """Scores at the pictures' own size, from pictures (n, 3, h, w) in [0,1]."""
        kind, color = (functional.interpolate(part.float(), pictures.shape[-2:], mode="bilinear")
                       for part in self.logits(pictures))
        return DenseScores(kind.softmax(1), color.softmax(1))

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """What the Fréchet distance compares: pictures (n, 3, h, w) in [0,1] -> (n, c), the mean over space."""
        return self._stages(pictures)[0].float().mean((-2, -1))


def save_classifier(model: SceneClassifier, path: Path, *, validation: dict[str, float]) -> None:
    """Write a classifier in half precision, with what it was measured at."""
    write_tensors(path, model.state_dict(), _FORMAT, model.settings, dtype=torch.float16,
                  validation=json.dumps(validation))


def load_classifier(path: Path = EMBEDDED_CLASSIFIER) -> tuple[SceneClassifier, dict[str, float]]:
    """A classifier (fp32, frozen) and its validation figures. Raises WeightsError for any other or a damaged file."""
    tensors, metadata = read_tensors(path)
    with about(path):
        if (metadata.get("format"), metadata.get("format_version")) != (_FORMAT, FORMAT_VERSION):
            raise WeightsError(f"got format {metadata.get('format')!r}, expected {_FORMAT!r}; give a scene classifier")
        found = parse_settings(ClassifierSettings, metadata)
        _check_names(found)
        model = SceneClassifier(ClassifierSettings(widths=tuple(found.widths)))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise WeightsError(f"its tensors do not fit its settings ({error}); train it again") from error
    return model.float().eval().requires_grad_(False), json.loads(metadata.get("validation", "{}"))


def _check_names(settings: ClassifierSettings) -> None:
    now: Sequence[tuple[str, str]] = ((settings.kinds, ",".join(KIND_NAMES)), (settings.colors, ",".join(COLOR_NAMES)))
    for stored, known in now:
        if stored != known:
            raise WeightsError(f"was trained for {stored}, the scenes now have {known}; train the classifier again")
