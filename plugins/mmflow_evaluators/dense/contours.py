"""Region and contour agreement of one object's masks (Perazzi et al., 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TOLERANCE = 0.008
"""Share of the image's diagonal within which contours agree."""


def region_similarity(truth: ArrayLike, found: ArrayLike) -> float:
    """J: intersection over union of two masks bool [H, W]; 1 where both are empty."""
    t, f = (np.asarray(v, dtype=bool) for v in (truth, found))
    union = int((t | f).sum())
    return float((t & f).sum()) / union if union else 1.0


def contour_accuracy(truth: ArrayLike, found: ArrayLike, tolerance: float = TOLERANCE) -> float:
    """F: F1 of the contour pixels that lie within `tolerance` of the other contour.

    Below 1 a tolerance is a share of the diagonal, rounded up to pixels, else pixels. 1 where neither has a contour, 0
    where one has.
    """
    from scipy.ndimage import distance_transform_edt

    t, f = contour(truth), contour(found)
    pixels = tolerance if tolerance >= 1 else float(np.ceil(tolerance * np.hypot(*t.shape)))
    if not t.any() or not f.any():
        return float(t.any() == f.any())
    near = [np.asarray(distance_transform_edt(~v)) <= pixels for v in (t, f)]
    precision, recall = float(near[0][f].mean()), float(near[1][t].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: ArrayLike) -> NDArray[np.bool_]:
    """Pixels [H, W] that differ from the one to the right, below, or below right; the image's edge is no contour."""
    m = np.asarray(mask, dtype=bool)
    if m.ndim != 2:
        raise ValueError(f"a mask is [H, W], not {list(m.shape)}")
    right, below, diagonal = m.copy(), m.copy(), m.copy()
    right[:, :-1] = m[:, 1:]
    below[:-1] = m[1:]
    diagonal[:-1, :-1] = m[1:, 1:]
    edges = (m ^ right) | (m ^ below) | (m ^ diagonal)
    # Along the last row and column there is one neighbor only.
    edges[-1] = m[-1] ^ right[-1]
    edges[:, -1] = m[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def keypoints_found(
    found: ArrayLike, truth: ArrayLike, scale: ArrayLike, alpha: float = 0.1, visible: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Whether [N, K] a keypoint lies within `alpha` times `scale` [N] of the true one (PCK; Yang and Ramanan, 2013).

    `found` and `truth` [N, K, 2] in pixels, `scale` the size that counts (the longer side of the box or image);
    NaN for keypoints that are not `visible`, bool [N, K]. PCK is the mean of the others.
    """
    f, t, s = (np.asarray(v, dtype=np.float64) for v in (found, truth, scale))
    here = np.ones(t.shape[:2], bool) if visible is None else np.asarray(visible, dtype=bool)
    if f.shape != t.shape or t.ndim != 3 or not (np.isfinite(f[here]).all() and np.isfinite(t[here]).all()):
        raise ValueError(f"keypoints are finite [N, K, 2], not {list(f.shape)} and {list(t.shape)}")
    distance = np.sqrt(((np.where(here[..., None], f - t, 0.0)) ** 2).sum(-1))
    return np.where(here, (distance <= alpha * s[:, None]).astype(np.float64), np.nan)
