"""Calibration of probabilities, and whether errors come where a model is unsure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Bins:
    """Rows by confidence: how many, their mean confidence and their accuracy, each [bins]; NaN where empty."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> Bins:
    """Rows in `bins` equal parts of [0, 1]; part b holds confidences in (b / bins, (b + 1) / bins], 0 the first.

    `confidence` [N] in [0, 1], `right` [N] from 0 to 1. Raises `ValueError` for no rows and values outside.
    """
    c, r = _checked(confidence, right)
    at = np.clip(np.ceil(c * bins - 1e-12).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(at, weights=v, minlength=bins) / counts for v in (c, r)]
    return Bins(counts.astype(np.int64), means[0], means[1])


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Mean over rows of |accuracy - confidence| of their bin (Guo et al., 2017).

    It is above 0 also for a calibrated model, by about the square root of bins / N.
    """
    found = reliability(confidence, right, bins)
    gaps = np.abs(np.nan_to_num(found.accuracy - found.confidence))
    return float((gaps * found.counts).sum() / found.counts.sum())


def adaptive_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """As above, with bins of equally many rows (Nguyen and O'Connor, 2015); equal confidences in the order of rows."""
    c, r = _checked(confidence, right)
    order = np.argsort(c, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(c))) if len(part)]
    return float(sum(len(part) * abs(float(r[part].mean() - c[part].mean())) for part in parts) / len(c))


def maximum_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """The largest |accuracy - confidence| of a bin with rows."""
    found = reliability(confidence, right, bins)
    return float(np.nanmax(np.abs(found.accuracy - found.confidence)))


def brier_scores(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """sum_c (p_c - [label = c])^2 of each row, from 0 to 2 (Brier, 1950). `probabilities` [N, C], `labels` int [N]."""
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    return ((p - (np.arange(p.shape[1]) == t[:, None])) ** 2).sum(1)


def log_losses(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """-log p of the label of each row, in nats; a probability of 0 counts as the smallest number above 0."""
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    return -np.log(np.maximum(p[np.arange(len(t)), t], np.finfo(np.float64).tiny))


def risk_coverage_area(uncertainty: ArrayLike, errors: ArrayLike) -> float:
    """Mean over coverages n / N of the error of the n surest rows (AURC; Geifman et al., 2019).

    Ties count by expectation; an uninformative uncertainty gives the mean error.
    """
    u, e = np.asarray(uncertainty, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if not len(u):
        return math.nan
    if not (np.isfinite(u).all() and np.isfinite(e).all()):
        raise ValueError("an uncertainty or an error is not finite")
    order = np.argsort(u, kind="stable")
    _, group = np.unique(u[order], return_inverse=True)
    mean = np.bincount(group, weights=e[order]) / np.bincount(group)
    return float((np.cumsum(mean[group]) / np.arange(1, len(u) + 1)).mean())


def best_risk_coverage_area(errors: ArrayLike) -> float:
    """The same where the uncertainty is the error itself: what no uncertainty can undercut."""
    return risk_coverage_area(errors, errors)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities [N, C]."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def _checked(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    c, r = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if c.ndim != 1 or c.shape != r.shape or not len(c):
        raise ValueError(
            f"confidence {list(c.shape)} and right answers {list(r.shape)} are not both [N], N of 1 or more"
        )
    if not ((c >= 0) & (c <= 1) & (r >= 0) & (r <= 1)).all():
        raise ValueError("confidences and right answers lie from 0 to 1")
    return c, r
