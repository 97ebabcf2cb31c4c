"""Means with 95 % confidence intervals over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "difference", "estimate"]

_RESAMPLES = 2000
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval; ``count`` values went into it."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def _sums(values: Sequence[Sequence[float]]) -> tuple[_Floats, _Floats]:
    return np.array([sum(v) for v in values], np.float64), np.array([len(v) for v in values], np.float64)


def _resampled(values: Sequence[Sequence[float]], seed: int) -> _Floats:
    """Means over bootstrap resamples of whole pictures: the objects of one picture share its luck."""
    sums, counts = _sums(values)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(_RESAMPLES, len(sums)))
    totals = counts[drawn].sum(1)
    return sums[drawn].sum(1)[totals > 0] / totals[totals > 0]


def estimate(values: Sequence[Sequence[float]], *, seed: int = 0, shares: bool = True) -> Estimate | None:
    """Mean over all values of all pictures (one sequence each, some may be empty) with its bootstrap interval.

    A share of exactly 0 or 1 gets the interval of the rule of three, which a bootstrap cannot see; ``shares`` False: what is
    measured is no share. None without values.
    """
    sums, counts = _sums(values)
    count = int(counts.sum())
    if count == 0:
        return None
    mean = float(sums.sum() / count)
    low, high = (float(q) for q in np.quantile(_resampled(values, seed), (0.025, 0.975)))
    if shares and low == high and mean in (0, 1):
        margin = min(1.0, 3 / int((counts > 0).sum()))
        low, high = (0.0, margin) if mean == 0 else (1 - margin, 1.0)
    return Estimate(mean, low, high, count)


def difference(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, seed: int = 0
) -> Estimate | None:
    """Mean of ``second`` less that of ``first`` on the same pictures, in the same order; the interval is of the pairs.

    None unless both have values.
    """
    (sums_a, counts_a), (sums_b, counts_b) = _sums(first), _sums(second)
    if len(sums_a) != len(sums_b) or not counts_a.sum() or not counts_b.sum():
        return None
    drawn = np.random.default_rng(seed).integers(len(sums_a), size=(_RESAMPLES, len(sums_a)))
    means = [sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1) for sums, counts in
             ((sums_a, counts_a), (sums_b, counts_b))]
    low, high = np.quantile(means[1] - means[0], (0.025, 0.975))
    mean = sums_b.sum() / counts_b.sum() - sums_a.sum() / counts_a.sum()
    return Estimate(float(mean), float(low), float(high), int(min(counts_a.sum(), counts_b.sum())))
