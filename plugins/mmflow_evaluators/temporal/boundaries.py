"""Boundaries between segments of a sequence.

Sequences are bool [N - 1] for N units (sentences, frames): True where a boundary lies after unit i. Padding is the
caller's to cut. Pk and WindowDiff are errors: 0 is perfect; guessing comes near 0.5 for Pk and above for WindowDiff.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def window(reference: ArrayLike) -> int:
    """Half the mean length of the reference's segments, rounded half to even, at least 1: the usual window."""
    r = np.asarray(reference, dtype=bool)
    return max(1, round((len(r) + 1) / (int(r.sum()) + 1) / 2))


def pk(reference: ArrayLike, found: ArrayLike, k: int | None = None) -> float:
    """Share of unit pairs at distance `k` that the two disagree about lying in one segment (Beeferman et al., 1999).

    NaN where there are not more than `k` units.
    """
    inside = _counts_inside(reference, found, k)
    return math.nan if inside is None else float(((inside[0] > 0) != (inside[1] > 0)).mean())


def window_difference(reference: ArrayLike, found: ArrayLike, k: int | None = None) -> float:
    """Share of windows of `k` gaps that hold another number of boundaries (Pevzner and Hearst, 2002); NaN as above."""
    inside = _counts_inside(reference, found, k)
    return math.nan if inside is None else float((inside[0] != inside[1]).mean())


def boundary_counts(reference: ArrayLike, found: ArrayLike, tolerance: int = 0) -> tuple[int, int, int]:
    """Matched, true and found boundaries; matched one to one at a distance of at most `tolerance`, as many as can be.

    Precision, recall and F1 of several sequences are those of the sums of these.
    """
    r, f = (np.flatnonzero(v).tolist() for v in _pair(reference, found))
    matched = at = 0
    for place in r:
        # In order, the first that is near enough leaves most for the later ones.
        while at < len(f) and f[at] < place - tolerance:
            at += 1
        if at < len(f) and f[at] <= place + tolerance:
            matched += 1
            at += 1
    return matched, len(r), len(f)


def f1_of_counts(matched: float, true: float, found: float) -> float:
    """2 matched / (true + found); NaN where there is no boundary at all."""
    return 2 * matched / (true + found) if true + found else math.nan


def _pair(reference: ArrayLike, found: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    r, f = (np.asarray(v) for v in (reference, found))
    if r.ndim != 1 or r.shape != f.shape:
        raise ValueError(f"boundaries {list(r.shape)} and {list(f.shape)} are not both [N - 1]")
    for values in (r, f):
        if not np.isin(values, (0, 1)).all():
            raise ValueError("boundaries are 0 or 1")
    return r.astype(bool), f.astype(bool)


def _counts_inside(
    reference: ArrayLike, found: ArrayLike, k: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    r, f = _pair(reference, found)
    size = window(r) if k is None else k
    if size < 1 or len(r) < size:
        return None
    sums = [np.concatenate([[0], np.cumsum(v.astype(np.int64))]) for v in (r, f)]
    return sums[0][size:] - sums[0][:-size], sums[1][size:] - sums[1][:-size]
