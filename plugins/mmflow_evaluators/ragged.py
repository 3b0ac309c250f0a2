"""Lists of rows of numbers, one list a sample: moments, boxes, tracks, boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmflow.plugin import ComponentError, Tokens

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor


def ragged(
    column: Tensor | Tokens | Sequence[ArrayLike | None], widths: tuple[int, ...], where: str
) -> list[NDArray[np.float64] | None]:
    """One array [L, width] a sample (None where absent) of a field with a series of rows, or of a stage's column.

    `widths` are those allowed, 0 for plain numbers [L]. Raises `ComponentError` for other widths and for NaN.
    """
    if isinstance(column, Tokens):
        values, mask = column.values.double().cpu().numpy(), column.mask.cpu().numpy()
        found = [row[here] for row, here in zip(values, mask, strict=True)]
    elif isinstance(column, Sequence):
        found = [None if row is None else np.asarray(row, dtype=np.float64) for row in column]
    else:
        rows = column.double().cpu().numpy()
        found = [None if np.isnan(row).all() else row for row in rows]
    read: list[NDArray[np.float64] | None] = []
    for row in found:
        if row is not None:
            if row.size == 0:
                row = np.zeros((0, widths[0]) if widths[0] else (0,))
            elif 0 not in widths and row.ndim == 1 and row.shape[0] in widths:
                row = row[None]
            width = 0 if row.ndim == 1 else row.shape[1]
            if row.ndim > 2 or width not in widths or not np.isfinite(row).all():
                expected = " or ".join(f"[L, {w}]" if w else "[L]" for w in widths)
                raise ComponentError(f"{where}: needs finite rows {expected} a sample, it got {list(row.shape)}")
        read.append(row)
    return read
