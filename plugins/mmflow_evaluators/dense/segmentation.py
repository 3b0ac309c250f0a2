"""Agreement of maps of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def class_areas(truth: ArrayLike, found: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Pixels [classes, 3] that both call a class, that the truth calls it, and that the map found calls it.

    `truth` and `found` int of one shape; pixels whose truth is outside 0 .. classes - 1 (255, -1) are left out, a
    class found outside is wrong. Sum these over images for the measures of a data set.
    """
    t, f = np.asarray(truth).reshape(-1), np.asarray(found).reshape(-1)
    if t.shape != f.shape:
        raise ValueError(f"maps of {t.size} and {f.size} pixels")
    known = (t >= 0) & (t < classes)
    t, f = t[known].astype(np.int64), f[known].astype(np.int64)
    inside = (f >= 0) & (f < classes)
    counts = [t[t == f], t, f[inside]]
    return np.stack([np.bincount(c, minlength=classes) for c in counts], axis=1).astype(np.int64)


def mean_iou(areas: NDArray[np.int64]) -> float:
    """Mean intersection over union of the classes that are in the truth or the maps found; NaN where there is none."""
    both, true, found = areas.T.astype(np.float64)
    union = true + found - both
    there = union > 0
    return float((both[there] / union[there]).mean()) if there.any() else math.nan


def pixel_accuracy(areas: NDArray[np.int64]) -> float:
    """Share of pixels with the right class."""
    total = float(areas[:, 1].sum())
    return float(areas[:, 0].sum()) / total if total else math.nan


def class_accuracy(areas: NDArray[np.int64]) -> float:
    """Mean over the classes of the truth of the share of their pixels found."""
    there = areas[:, 1] > 0
    return float((areas[there, 0] / areas[there, 1]).mean()) if there.any() else math.nan


def cell_classes(masks: ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """The most frequent class [N, height, width] of the pixels of each cell of a grid over masks int [N, H, W].

    Of equally frequent classes the smallest; negative classes and 255 do not count, and a cell of nothing else is -1.
    Cells are those of the floor division of the place of a pixel; grids larger than masks repeat pixels.
    """
    m = np.asarray(masks).astype(np.int64)
    m = np.where(m == 255, -1, m)
    count = max(1, int(m.max(initial=0)) + 1)
    votes = np.zeros((len(m), height, width, count), np.int64)
    size = (max(m.shape[1], height), max(m.shape[2], width))
    rows, columns = (np.arange(s) * n // s for s, n in zip(size, (height, width), strict=True))
    source = [np.arange(s) * o // s for s, o in zip(size, m.shape[1:], strict=True)]
    large = m[:, source[0]][:, :, source[1]]
    n, r, c = np.nonzero(large >= 0)
    np.add.at(votes, (n, rows[r], columns[c], large[n, r, c]), 1)
    return np.where(votes.sum(-1) > 0, votes.argmax(-1), -1)


def enlarged(grids: ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Classes int [N, h, w] of the cells as maps [N, height, width]: each pixel that of its cell."""
    g = np.asarray(grids).astype(np.int64)
    rows, columns = (np.arange(size) * n // size for size, n in zip((height, width), g.shape[1:], strict=True))
    return g[:, rows][:, :, columns]
