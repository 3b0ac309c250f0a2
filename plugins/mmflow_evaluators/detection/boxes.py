"""Overlap of boxes and of masks, and pointing at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def box_iou(a: ArrayLike, b: ArrayLike, crowd: ArrayLike | None = None) -> NDArray[np.float64]:
    """Intersection over union [N, M] of boxes a [N, 4] and b [M, 4] as x0, y0, x1, y1.

    `crowd` bool [M]: such a box is a region of many objects, and the share of a inside it counts instead. Boxes
    without area overlap nothing. Raises `ValueError` for NaN and for ends before starts.
    """
    x, y = _boxes(a), _boxes(b)
    low, high = np.maximum(x[:, None, :2], y[None, :, :2]), np.minimum(x[:, None, 2:], y[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = [np.prod(v[:, 2:] - v[:, :2], axis=-1) for v in (x, y)]
    return _over(inside, areas[0], areas[1], crowd)


def mask_iou(a: ArrayLike, b: ArrayLike, crowd: ArrayLike | None = None) -> NDArray[np.float64]:
    """The same for masks, bool [N, H, W] and [M, H, W]; empty masks overlap nothing."""
    x, y = (np.asarray(v, dtype=bool) for v in (a, b))
    if x.ndim != 3 or y.ndim != 3 or (len(x) and len(y) and x.shape[1:] != y.shape[1:]):
        raise ValueError(f"masks are [N, H, W] of one size, not {list(x.shape)} and {list(y.shape)}")
    flat = [v.reshape(len(v), v.shape[1] * v.shape[2]).astype(np.float64) for v in (x, y)]
    inside = flat[0] @ flat[1].T if len(x) and len(y) else np.zeros((len(x), len(y)))
    return _over(inside, flat[0].sum(1), flat[1].sum(1), crowd)


def points_at_peak(maps: ArrayLike, regions: ArrayLike, tolerance: float = 0.0) -> NDArray[np.float64]:
    """Probability [N] that the highest place of a map lies in its region (the pointing game; Zhang et al., 2018).

    `maps` float [N, H, W], `regions` bool [N, H, W]; a place at most `tolerance` pixels (Euclidean) from the region
    counts as in it (15 in the paper). Of equally high places each is pointed at with equal probability, so that a
    constant map gives the region's share of the area, which is chance. NaN for a row without a region.
    """
    from scipy.ndimage import distance_transform_edt

    m, r = np.asarray(maps, dtype=np.float64), np.asarray(regions, dtype=bool)
    if m.ndim != 3 or m.shape != r.shape:
        raise ValueError(f"maps {list(m.shape)} and regions {list(r.shape)} are not both [N, H, W]")
    if not np.isfinite(m).all():
        raise ValueError("a map has values that are not finite")
    found = []
    for one, region in zip(m, r, strict=True):
        if not region.any():
            found.append(np.nan)
            continue
        near = region if tolerance <= 0 else np.asarray(distance_transform_edt(~region)) <= tolerance
        peak = one == one.max()
        found.append(float(near[peak].mean()))
    return np.array(found, dtype=np.float64)


def _over(
    inside: NDArray[np.float64], own: NDArray[np.float64], other: NDArray[np.float64], crowd: ArrayLike | None
) -> NDArray[np.float64]:
    union = own[:, None] + other[None] - inside
    if crowd is not None:
        union = np.where(np.asarray(crowd, dtype=bool)[None], own[:, None], union)
    return np.where(union > 0, inside / np.where(union > 0, union, 1.0), 0.0)


def _boxes(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(x).all() or (x[:, 2:] < x[:, :2]).any():
        raise ValueError("a box is not finite, or ends before its start (x0, y0, x1, y1)")
    return x
