"""Scores of a row with the members of its own group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmflow.plugin import ComponentError, Encoding, Score, Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray


def member(encoding: Encoding, place: int) -> Encoding:
    """Member `place` of the first group axis."""
    picked = encoding.map(lambda tensor: tensor[:, place])
    return Encoding(picked.outputs, (encoding.axes[0], *encoding.axes[2:]), picked.present)


def scores_of_members(
    score: Score, rows: Encoding, candidates: Encoding, where: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores [N, C] of each row with its C candidates, and which are present (row and candidate), bool [N, C].

    Raises `ComponentError` where the rows have a group axis, or the candidates not exactly one.
    """
    if len(rows.axes) != 1 or len(candidates.axes) != 2:
        raise ComponentError(
            f"{where}: needs one value a row and a group of candidates; their axes are "
            f"{', '.join(rows.axes)} and {', '.join(candidates.axes)}",
            hint="the candidates come from a field that holds a list a row",
        )
    count = len(rows)
    first = next(iter(candidates.outputs.values()))
    members = int((first.values if isinstance(first, Tokens) else first).shape[1])
    columns = [score.pairs(rows, member(candidates, place)).double().cpu().numpy() for place in range(members)]
    scores = np.stack(columns, axis=1) if columns else np.zeros((count, 0))
    present = np.ones((count, members), bool)
    if candidates.present is not None:
        present &= candidates.present.cpu().numpy()
    if rows.present is not None:
        present &= rows.present.cpu().numpy()[:, None]
    return scores, present
