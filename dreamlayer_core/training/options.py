"""What a training command asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

__all__ = ["PRECISIONS", "TrainOptions"]

PRECISIONS = ("no", "fp16", "bf16")  # accelerate's names; "no" is fp32


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """One run of one stage. Where a value is None the stage's own default holds. Raises InputError for impossible values."""

    data: Path  # the scene cache
    out: Path  # checkpoint, log, sample sheets and export of the run
    model: Path | None  # model folder with what the earlier stages made
    steps: int | None
    batch: int | None
    learning_rate: float | None
    minutes: float | None  # stop, saving, after this long
    resume: bool
    seed: int
    precision: str
    compiled: bool = False  # torch.compile the UNet's blocks (base only)
    freeze_text: bool = False  # train the UNet alone (base only)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate", "minutes"):
            value: float | None = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"got {name} {value}; give a positive number, or leave it out for the stage's own")
        if self.precision not in PRECISIONS:
            raise InputError(f"got precision {self.precision!r}; give one of {', '.join(PRECISIONS)}")
        if self.seed < 0:
            raise InputError(f"got seed {self.seed}; give 0 or more")
