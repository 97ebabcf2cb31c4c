"""What evaluations that take hours share: progress on the terminal, and a mark of the weights that they measure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from rich import progress
from rich.console import Console
from torch import nn

__all__ = ["Progress", "run_jobs", "weights_digest"]

Progress = Iterator[tuple[int, int]]
"""A job: after each of its parts how much is done, and of how much."""


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
