"""What evaluations that take hours share: options, progress on the terminal, a mark of the weights that they measure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich import progress
from rich.console import Console
from torch import nn

from ..config import SamplingConfig
from ..errors import InputError

__all__ = ["Progress", "RunOptions", "run_jobs", "weights_digest"]

Progress = Iterator[tuple[int, int]]
"""A job: after each of its parts how much is done, and of how much."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an evaluation runs. Records of single scenes are kept in ``out``: the same options go on there."""

    out: Path = Path("evaluation")
    json: Path | None = None  # every figure; beside the report in ``out`` if not given
    model: str = "embedded"
    steps: int = 25  # half the paper's 50 (App. B): half the time
    guidance: float = SamplingConfig.guidance
    layer_guidance: Mapping[int, float] = field(default_factory=lambda: dict[int, float]())
    seed: int = 0
    views: int = 1  # of the transparent decoder; 8, as the commands have, take most of the time
    half: bool = False  # sample and decode in bf16

    def __post_init__(self) -> None:
        if not 10 <= self.steps <= 1000:
            raise InputError(f"got {self.steps} steps; harmonisation between T_H and T'_H needs 10 to 1000")
        self.sampling.row_guidance(3)  # of scenes with one foreground

    @property
    def sampling(self) -> SamplingConfig:
        """Of every picture; InputError for what cannot be."""
        return SamplingConfig(steps=self.steps, guidance=self.guidance, layer_guidance=self.layer_guidance)

    @property
    def guidance_text(self) -> str:
        """The guidance as records and reports have it."""
        return " ".join([str(self.guidance), *(f"(layer {row}: {scale:g})" for row, scale in self.layer_guidance.items())])


def run_jobs(jobs: Iterator[tuple[str, Progress]]) -> None:
    """Run titled jobs one after the other, with a bar each where stderr is a terminal."""
    console = Console(stderr=True)
    with progress.Progress(console=console, disable=not console.is_terminal) as bars:
        for title, job in jobs:
            task = bars.add_task(title, total=None)
            for done, total in job:
                bars.update(task, completed=done, total=total)


def weights_digest(*modules: nn.Module | None) -> str:
    """Changes with any weight; cheap."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in ([] if module is None else module.state_dict().items()):
            digest.update(f"{name} {value.double().sum():.9e} {value.double().abs().sum():.9e}".encode())
    return digest.hexdigest()[:12]
