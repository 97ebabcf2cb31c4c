"""The Fréchet distance between two sets of features (Heusel et al. 2017), in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["frechet_distance", "frechet_error"]


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(0), features.T.cov()


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|² + tr(S1 + S2 - 2 (S1^½ S2 S1^½)^½) of features (n, d) and (m, d).

    Sets smaller than a few times d overstate it, so compare only figures from sets of equal size.
    Raises InputError for fewer than two samples or for different d.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise InputError(
            f"got features {tuple(first.shape)} and {tuple(second.shape)}; give at least two samples each, of one width")
    (mean_a, spread_a), (mean_b, spread_b) = _moments(first.double()), _moments(second.double())
    root = _root(spread_a)
    cross = torch.linalg.eigvalsh(root @ spread_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + spread_a.trace() + spread_b.trace() - 2 * cross
    return max(0.0, float(distance))


def frechet_error(first: Tensor, second: Tensor, *, resamples: int = 50, seed: int = 0) -> float:
    """Standard error of the distance by half-samples without replacement of the first set.

    Half-samples have no duplicates, which in a bootstrap would lower the covariance's rank and inflate the distance.
    """
    generator = torch.Generator().manual_seed(seed)
    half = max(2, len(first) // 2)
    drawn = [frechet_distance(first[torch.randperm(len(first), generator=generator)[:half]], second)
             for _ in range(resamples)]
    # Half-samples of n vary by sigma² (1/half - 1/n) = sigma²/n: as much as whole samples do.
    return float(torch.tensor(drawn, dtype=torch.float64).std())
