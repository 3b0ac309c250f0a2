"""Similarity of two representations by the nearest neighbors of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIE = 1e-9
"""Similarities closer than this are tied: far above the rounding of float64 products of unit vectors."""
BLOCK = 1024


def mutual_knn(x: NDArray[np.float64], y: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Share [N] of a row's `k` nearest rows in `x` that are among its `k` nearest in `y` (Huh et al., 2024).

    `x` [N, P] and `y` [N, Q] are unit vectors; nearest by inner product, the row itself left out. Ties for the k-th
    place are broken at random in each representation: a collapsed one is exactly at chance, k / (N - 1). Duplicates
    therefore lower the score of a representation with itself below 1. Raises `ValueError` for k of N or more.
    """
    shares = []
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        shares.append((neighbor_probabilities(x, k, part) * neighbor_probabilities(y, k, part)).sum(1) / k)
    return np.concatenate(shares)


def cycle_knn(x: NDArray[np.float64], y: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Whether [N] a row is, in `x`, a neighbor of one of its own neighbors in `y`; ties in the order of rows."""
    own, other = _nearest(x, k), _nearest(y, k)
    return (own[other] == np.arange(len(x))[:, None, None]).any((1, 2)).astype(np.float64)


def neighbor_probabilities(x: NDArray[np.float64], k: int, part: slice = slice(None)) -> NDArray[np.float64]:
    """Probability [n, N] that each row is among the `k` with the highest inner product, for the rows in `part`."""
    count = len(x)
    if not 0 < k < count:
        raise ValueError(f"{k} neighbors of {count} rows: a row has {max(0, count - 1)} others")
    scores = x[part] @ x.T
    rows = np.arange(count)[part]
    scores[np.arange(len(rows)), rows] = -np.inf
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above = scores > last + TIE
    tied = (scores >= last - TIE) & ~above
    left = k - above.sum(1, keepdims=True)
    return above + tied * (left / tied.sum(1, keepdims=True))


def _nearest(x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    if not 0 < k < len(x):
        raise ValueError(f"{k} neighbors of {len(x)} rows: a row has {max(0, len(x) - 1)} others")
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]
