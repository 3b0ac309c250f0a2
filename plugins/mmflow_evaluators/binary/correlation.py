"""Correlation of a score with a number that people gave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of two lists of numbers [N]; NaN where one of them is constant or N < 2."""
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{list(x.shape)} and {list(y.shape)} are not both [N]")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a number to correlate is not finite")
    if len(x) < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    # Numbers that differ by rounding alone are constant.
    small = 1e-13 * max(1.0, float(np.abs(a).max())), 1e-13 * max(1.0, float(np.abs(b).max()))
    if np.abs(x).max() <= small[0] or np.abs(y).max() <= small[1]:
        return math.nan
    return float(np.clip(x @ y / scale, -1, 1))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two lists of numbers [N], ties at their mean rank; NaN as in `pearson`."""
    from scipy.stats import rankdata

    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a number to correlate is not finite")
    return pearson(rankdata(a), rankdata(b))
