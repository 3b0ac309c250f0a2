"""Late interaction in Triton: which kernel scores the pairs, and which of the two items it takes for rows."""

from functools import partial
from typing import Any

from torch import Tensor

from ..tiles import PairScores, Tile, contrast, score_matrices
from .fused_maxima import FusedMaxima
from .fused_soft import FusedSoftMaxima


def max_sim(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
) -> tuple[Tensor, Tensor]:
    over_y, over_x = score_matrices(partial(_pairs, inner), x, y, x_weight, y_weight, x_valid, y_valid)
    return over_y, over_x


def max_sim_contrast(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
    temperature: Tensor,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    x_present = None if x_valid is None else x_valid.any(1)
    y_present = None if y_valid is None else y_valid.any(1)
    return contrast(
        partial(_pairs, inner), temperature, x_present, y_present, label_smoothing,
        x, y, x_weight, y_weight, x_valid, y_valid,
    )  # fmt: skip


def _pairs(inner: float | None, *tensors: Any) -> PairScores:
    """The kernel holds all tokens of its second item at once: the shorter side goes there."""
    x, y, x_weight, y_weight, x_valid, y_valid = tensors
    if y.shape[1] <= x.shape[1]:
        return _scores(inner, *tensors)
    return _Turned(_scores(inner, y, x, y_weight, x_weight, y_valid, x_valid))


def _scores(inner: float | None, *tensors: Any) -> PairScores:
    return FusedMaxima(*tensors) if inner is None else FusedSoftMaxima(*tensors, inner)


class _Turned(PairScores):
    """Scores with rows and columns in each other's place."""

    def __init__(self, scores: PairScores) -> None:
        self.scores = scores
        self.rows, self.columns = scores.columns, scores.rows
        self.row_step, self.column_step = scores.column_step, scores.row_step

    def tile(self, r: slice, c: slice) -> Tile:
        tile = self.scores.tile(c, r)
        return tile._replace(by_row=tile.by_column.T, by_column=tile.by_row.T)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        self.scores.pull(c, r, tile, d_by_column.T, d_by_row.T)

    def gradients(self) -> tuple[Tensor | None, ...]:
        dx, dy, dx_weight, dy_weight, *_ = self.scores.gradients()
        return dy, dx, dy_weight, dx_weight, None, None
