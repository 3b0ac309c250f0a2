"""How a representation fills its space: spectrum, dimensions that count, collapse, conformity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def spectrum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances along the principal axes of `x` [N, D], falling; min(N - 1, D) of them, all 0 for equal rows."""
    if len(x) < 2:
        raise ValueError(f"a spectrum needs two rows, there are {len(x)}")
    centered = x - x.mean(0)
    values = np.linalg.svd(centered, compute_uv=False) ** 2 / (len(x) - 1)
    scale = float(np.abs(x).max(initial=0.0)) ** 2
    return np.where(values > 1e-24 * max(scale, 1e-300), values, 0.0)[: min(len(x) - 1, x.shape[1])]


def participation_ratio(variances: NDArray[np.float64]) -> float:
    """(sum v)^2 / sum v^2: from 1 (one axis) to the number of axes (all alike); 0 for a collapsed representation."""
    total = float(variances.sum())
    return total**2 / float((variances**2).sum()) if total > 0 else 0.0


def entropy_rank(variances: NDArray[np.float64]) -> float:
    """exp of the entropy of the variances divided by their sum (as Roy and Vetterli, 2007, of singular values)."""
    total = float(variances.sum())
    if total <= 0:
        return 0.0
    share = variances[variances > 0] / total
    return math.exp(-float((share * np.log(share)).sum()))


def axes_for(variances: NDArray[np.float64], share: float) -> int:
    """How many principal axes hold `share` of the variance; 0 for a collapsed representation."""
    total = float(variances.sum())
    if total <= 0:
        return 0
    return int(np.searchsorted(np.cumsum(variances) / total, share - 1e-12)) + 1


def spread_of_units(x: NDArray[np.float64]) -> float:
    """Mean standard deviation of the coordinates of unit vectors [N, D], times the square root of D.

    1 for vectors spread evenly over the sphere, 0 for collapse to a point (Chen and He, 2021).
    """
    return float(x.std(0).mean() * math.sqrt(x.shape[1]))


def conformity(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine [N] of each row with all others (Levi and Gilboa, 2025): (N u.m - 1) / (N - 1) for unit vectors u
    [N, D] and their mean m.
    """
    if len(x) < 2:
        raise ValueError(f"conformity needs two rows, there are {len(x)}")
    lengths = (x**2).sum(1)
    return (len(x) * (x @ x.mean(0)) - lengths) / (len(x) - 1)


def within_class_share(x: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Share of the variance of `x` [N, D] that lies within classes; 0 where each class is a point (Papyan et al.,
    2020, their first sign of neural collapse). NaN where all rows are equal."""
    _, member_of = np.unique(classes, return_inverse=True)
    counts = np.bincount(member_of)[:, None]
    means = np.stack([np.bincount(member_of, weights=column) for column in x.T], axis=1) / counts
    total = float(((x - x.mean(0)) ** 2).sum())
    return float(((x - means[member_of]) ** 2).sum()) / total if total > 0 else math.nan
