"""Rows that start from given latents, each with a denoise strength of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .errors import InputError
from .sampling import FINAL, Replay
from .schedule import first_own_step
from .stack_latents import Noising, noised_trajectory

__all__ = ["start_rows"]


def start_rows(
    schedule: Noising, clean: Tensor, noise: Tensor, timesteps: Sequence[int], strengths: Mapping[int, float]
) -> Replay:
    """What lets rows of a run begin with latents of their own: give it to `sample_layers`, or ``generate``.

    ``clean`` and ``noise`` (stacks, rows, c, h, w), of all rows of the run; ``timesteps`` are the run's, descending. A row
    of strength d stands at ``clean`` noised to the level of every step, where the others see it, until the last share d
    of the steps begins: these are its own (Meng et al. 2021). 0 keeps it bit for bit, 1 is an ordinary row, as are those
    without a strength. Raises InputError for rows that are not there and strengths outside 0 to 1.
    """
    if unknown := [row for row in strengths if not 0 <= row < clean.shape[1]]:
        raise InputError(f"got a denoise strength for row {unknown[0]}; give rows of 0 to {clean.shape[1] - 1}")
    first = {row: first_own_step(len(timesteps), strength) for row, strength in strengths.items()}
    rows = [row for row, step in first.items() if step > 0]
    starts = {row: timesteps[first[row]] for row in rows if first[row] < len(timesteps)}
    path = noised_trajectory(schedule, clean[:, rows], noise[:, rows], [*timesteps, FINAL])
    return Replay(tuple(rows), path.latents, starts=starts)
