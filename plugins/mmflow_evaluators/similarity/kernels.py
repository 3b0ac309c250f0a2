"""Similarity of two representations by the kernels of their rows: CKA, and CKA of common neighbors.

Representations are float64 [N, P] and [N, Q] of the same N rows, of any widths; the results do not change with
rotation, shift (CKA) and scale. A constant representation has no kernel: NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mmflow_evaluators.similarity.neighbors import neighbor_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray


def linear_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Centered kernel alignment of linear kernels (Kornblith et al., 2019), from 0 to 1.

    Biased: two unrelated representations with more dimensions than rows are near 1. Costs N (P + Q)^2.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    cross, own, other = (float(((a.T @ b) ** 2).sum()) for a, b in ((x, y), (x, x), (y, y)))
    scale = math.sqrt(own) * math.sqrt(other)
    return min(1.0, cross / scale) if scale > _SMALL * _size(x, y) else math.nan


def unbiased_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """CKA with the unbiased estimate of HSIC (Song et al., 2012; Nguyen et al., 2021): 0 on average for unrelated
    representations of any width. Needs more than 3 rows. Costs N^2 (P + Q).
    """
    # It does not change with a shift; without one, equal rows are equal beyond rounding.
    x, y = x - x.mean(0), y - y.mean(0)
    return _cka(x @ x.T, y @ y.T, _unbiased_hsic)


def rbf_cka(x: NDArray[np.float64], y: NDArray[np.float64], scale: float) -> float:
    """Biased CKA of the kernels exp(-|a - b|^2 / (2 scale^2)), on rows as they are."""
    return _cka(_gaussian(x, scale), _gaussian(y, scale), _biased_hsic)


def neighbor_cka(x: NDArray[np.float64], y: NDArray[np.float64], k: int) -> float:
    """Unbiased CKA over pairs that are among the `k` nearest in both representations (CKNNA; Huh et al., 2024).

    Kernels are inner products: give unit vectors for cosines. A row is no neighbor of itself; ties for the k-th place
    count by expectation.
    """
    a, b = x @ x.T, y @ y.T
    own, other = neighbor_probabilities(x, k), neighbor_probabilities(y, k)

    def masked(p: NDArray[np.float64], q: NDArray[np.float64], mask: NDArray[np.float64]) -> float:
        return _unbiased_hsic(p * mask, q * mask)

    both = masked(a, b, own * other)
    scale = masked(a, a, own) * masked(b, b, other)
    return both / math.sqrt(scale) if scale > 0 else math.nan


_SMALL = 1e-20


def _size(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """A rounding error's scale for products of four factors."""
    return max(1.0, float(np.abs(x).max(initial=0)) ** 2 * float(np.abs(y).max(initial=0)) ** 2)


def _cka(k: NDArray[np.float64], m: NDArray[np.float64], hsic: _Hsic) -> float:
    own, other = hsic(k, k), hsic(m, m)
    scale = math.sqrt(max(own, 0.0)) * math.sqrt(max(other, 0.0))
    return hsic(k, m) / scale if scale > _SMALL * _size(k, m) else math.nan


def _biased_hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    k = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
    return float((k * m.T).sum())


def _unbiased_hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    """HSIC_1 up to its factor 1 / (N (N - 3)); kernels need not be symmetric."""
    count = len(k)
    if count < 4:
        return math.nan
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    trace = float((k * m.T).sum())
    middle = float(k.sum()) * float(m.sum()) / ((count - 1) * (count - 2))
    crossed = float(k.sum(0) @ m.sum(1)) * 2 / (count - 2)
    return trace + middle - crossed


def _gaussian(x: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    squares = (x**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0)
    return np.exp(-distances / (2 * scale**2))


if TYPE_CHECKING:
    from collections.abc import Callable

    _Hsic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
