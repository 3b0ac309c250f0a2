"""One vector a row, as the measures read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmflow.plugin import ComponentError, Encoding

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


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [..., D] with length 1; a zero vector stays zero."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
