"""Scores of two encodings row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmflow.plugin import ComponentError, Encoding, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pair_scores(score: Score, a: Encoding, b: Encoding, where: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores float64 [N] of the rows of two encoders, and where both are present, bool [N]."""
    if len(a.axes) != 1 or len(b.axes) != 1:
        raise ComponentError(
            f"{where} needs one value a row on both sides; their axes are {', '.join(a.axes)} and {', '.join(b.axes)}"
        )
    present = np.ones(len(a), bool)
    for side in (a, b):
        if side.present is not None:
            present &= side.present.cpu().numpy()
    return score.pairs(a, b).double().cpu().numpy(), present
