"""How well a score tells positive from negative items. NaN where there is only one of the two kinds.

Every function takes `scores` float [N], higher for positive, and `truth` bool [N]; it raises `ValueError` where a
score is not finite. A threshold never parts equal scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counted half."""
    hits, false = _counts(scores, truth)
    if not hits[-1] or not false[-1]:
        return math.nan
    return float(np.trapezoid(hits / hits[-1], false / false[-1]))


def false_positive_rate(scores: ArrayLike, truth: ArrayLike, recall: float = 0.95) -> float:
    """Share of negatives accepted where the share `recall` of the positives is (FPR95 for 0.95; chance is `recall`).

    Of equal scores a part is accepted, as many as needed: a constant score gives `recall` itself.
    """
    hits, false = _counts(scores, truth)
    if not hits[-1] or not false[-1]:
        return math.nan
    found, accepted = hits / hits[-1], false / false[-1]
    at = int(np.searchsorted(found, recall - 1e-12))
    step = found[at] - found[at - 1]
    part = min(1.0, max(0.0, (recall - found[at - 1]) / step)) if step > 0 else 1.0
    return float(accepted[at - 1] + part * (accepted[at] - accepted[at - 1]))


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Sum of precision over the steps of recall (AUPR, without interpolation; Davis and Goadrich, 2006).

    Equal scores are one step, so that a constant score gives the share of positives, which is what guessing gives.
    """
    hits, false = _counts(scores, truth)
    if not hits[-1] or not false[-1]:
        return math.nan
    precision = hits[1:] / (hits[1:] + false[1:])
    return float((np.diff(hits) / hits[-1] * precision).sum())


def best_accuracy(scores: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Highest accuracy over thresholds, and the threshold: items at or above it are called positive.

    The threshold is midway to the next score below; infinite where all items, or none, are best called positive.
    Guessing gives the share of the more frequent kind.
    """
    hits, false = _counts(scores, truth)
    if not hits[-1] or not false[-1]:
        return math.nan, math.nan
    right = (hits + false[-1] - false) / (hits[-1] + false[-1])
    best = int(right.argmax())
    return float(right[best]), _threshold(scores, best)


def best_f1(scores: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Highest F1 of the positive kind over thresholds, and the threshold.

    Guessing gives 2 p / (1 + p) for a share p of positives: calling all positive.
    """
    hits, false = _counts(scores, truth)
    if not hits[-1] or not false[-1]:
        return math.nan, math.nan
    f1 = 2 * hits / (hits + false + hits[-1])
    best = int(f1.argmax())
    return float(f1[best]), _threshold(scores, best)


def _counts(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positives and negatives at or above each distinct score from the highest on, with 0 and 0 first."""
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool)
    if s.ndim != 1 or s.shape != t.shape:
        raise ValueError(f"scores {list(s.shape)} and truth {list(t.shape)} are not both [N]")
    if not np.isfinite(s).all():
        raise ValueError("a score is not finite: the embeddings or the score overflow")
    order = np.argsort(-s, kind="stable")
    ordered, positive = s[order], t[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(s) else np.zeros(0, np.int64)
    hits, total = np.cumsum(positive)[last], last + 1
    return np.append(0.0, hits.astype(np.float64)), np.append(0.0, (total - hits).astype(np.float64))


def _threshold(scores: ArrayLike, steps: int) -> float:
    """The threshold that calls the highest `steps` distinct scores positive."""
    distinct = np.unique(np.asarray(scores, dtype=np.float64))[::-1]
    if steps == 0:
        return math.inf
    return float((distinct[steps - 1] + distinct[steps]) / 2) if steps < len(distinct) else -math.inf
