"""Progress of a run on stderr, one bar a stage; nothing where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..sampling import Step

__all__ = ["StageProgress", "stage_progress"]

_LABELS = {"load": "Loading", "encode": "Encoding", "invert": "Inverting", "layers": "Sampling", "harmonize": "Harmonizing",
           "write": "Writing"}


class StageProgress:
    """The stages of one run, one after the other: a stage ends where the next one begins."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._stage = bars, ""
        self._task: TaskID | None = None

    def begin(self, stage: str, total: int | None = None) -> None:
        """Start a stage of `total` steps, or of unknown length."""
        self.finish()
        self._stage = stage
        self._task = self._bars.add_task(_LABELS.get(stage, stage), total=total)

    def finish(self) -> None:
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, total=total, completed=total)
        self._task = None

    def on_step(self, step: Step) -> None:
        """For the pipeline's `on_step`, which is called before each step."""
        if step.stage != self._stage:
            self.begin(step.stage, step.total)
        if self._task is not None:
            self._bars.update(self._task, completed=step.index)


@contextmanager
def stage_progress() -> Generator[StageProgress, None, None]:
    """Bars that vanish when the run ends."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        progress = StageProgress(bars)
        yield progress
        progress.finish()
