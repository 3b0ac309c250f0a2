"""Moments: intervals [start, end] in seconds, frames or tokens, and how they overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def moment_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union [..., N, M] of moments a [..., N, 2] and b [..., M, 2].

    Two moments without length overlap fully where they are equal, else not at all. Raises `ValueError` where an end
    lies before its start, or a time is NaN.
    """
    x, y = _moments(a), _moments(b)
    low = np.maximum(x[..., :, None, 0], y[..., None, :, 0])
    high = np.minimum(x[..., :, None, 1], y[..., None, :, 1])
    inside = np.maximum(high - low, 0.0)
    lengths = (x[..., 1] - x[..., 0])[..., :, None] + (y[..., 1] - y[..., 0])[..., None, :]
    union = lengths - inside
    same = (x[..., :, None, :] == y[..., None, :, :]).all(-1)
    return np.where(union > 0, inside / np.where(union > 0, union, 1.0), same.astype(np.float64))


def moment_recall(
    found: ArrayLike, truth: ArrayLike, at: int, overlap: float, present: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Whether [N] one of the first `at` moments overlaps the true one by at least `overlap` (R@k at IoU).

    `found` [N, K, 2], best first, `present` bool [N, K]; `truth` [N, 2] or, with several right ones, [N, T, 2]. A row
    with fewer moments than `at` has the fewer chances.
    """
    f, t = _moments(found), _moments(truth)
    t = t[:, None] if t.ndim == 2 else t
    overlaps = moment_iou(f, t).max(-1, initial=0.0)
    if present is not None:
        overlaps = np.where(np.asarray(present, dtype=bool), overlaps, -1.0)
    return np.asarray((overlaps[:, :at] >= overlap - 1e-12).any(1), dtype=np.float64)


def mean_moment_iou(found: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Overlap [N] of the first moment [N, K, 2] with the true one [N, 2] (mIoU is its mean); 0 without a moment."""
    f, t = _moments(found), _moments(truth)
    if f.shape[1] == 0:
        return np.zeros(len(f))
    return np.asarray(moment_iou(f[:, :1], t[:, None])[:, 0, 0], dtype=np.float64)


def suppress_moments(moments: ArrayLike, scores: ArrayLike, overlap: float) -> NDArray[np.int64]:
    """Places of the moments [K, 2] that are kept, best first: each overlaps every better kept one by at most
    `overlap` (greedy suppression). Of equal scores the first counts as better."""
    x, s = _moments(moments), np.asarray(scores, dtype=np.float64)
    kept: list[int] = []
    overlaps = moment_iou(x, x)
    for place in np.argsort(-s, kind="stable").tolist():
        if all(overlaps[place, better] <= overlap for better in kept):
            kept.append(place)
    return np.array(kept, dtype=np.int64)


def _moments(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.shape[-1:] != (2,):
        raise ValueError(f"moments are [..., 2], start and end, not {list(x.shape)}")
    if not np.isfinite(x).all() or (x[..., 1] < x[..., 0]).any():
        raise ValueError("a moment is not finite, or ends before its start")
    return x
