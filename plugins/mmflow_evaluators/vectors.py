"""One vector a row, as the measures read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmflow.plugin import ABSENT, ComponentError, Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vectors_of(encoding: Encoding, where: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Vectors float64 [N, D] and which rows are present, bool [N]; raises `ComponentError` for groups of vectors."""
    vectors = encoding.pooled
    if vectors.ndim != 2:
        raise ComponentError(
            f"{where} needs one vector a row, it got {list(vectors.shape[1:])} (axes {', '.join(encoding.axes)})"
        )
    present = np.ones(len(vectors), bool) if encoding.present is None else encoding.present.cpu().numpy()
    return vectors.double().cpu().numpy(), present


def numbers_of(column: Tensor | Sequence[float | None]) -> NDArray[np.float64]:
    """The first number of each row of a field or of a stage's column, NaN where it is absent: float64 [N]."""
    if not isinstance(column, Tensor):
        return np.array([np.nan if value is None else float(value) for value in column])
    values = column.double().masked_fill(column == ABSENT, torch.nan)
    return values.cpu().numpy().reshape(len(column), -1)[:, 0]


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [..., D] with length 1; a zero vector stays zero."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
