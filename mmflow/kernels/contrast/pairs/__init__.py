"""Which pairs of a batch are positives, which count as negatives, and with what weight: rules, evaluated by tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PairWeights = Tensor | Callable[[slice, slice], Tensor]


@dataclass(frozen=True)
class Pairs:
    """The rules over the pairs (i, j) of rows [N] and columns [M], never as an N x M tensor.

    A pair is *out* when a member is absent, when it is a row with itself (`without_self`) or of one view
    (`without_same_view`). A pair that is not out is *positive* on the diagonal or where ids agree. Pairs that are out
    are excluded from every sum; so are pairs of one id that are no positives (`without_same_id`), and positives
    themselves where the loss keeps them out of the denominator (`without_positives`).

    `first_row` and `first_column` are the global positions of row 0 and column 0 where the batch is split over ranks.
    """

    rows: int
    columns: int
    positives: Literal["none", "diagonal", "ids"] = "diagonal"
    x_ids: Tensor | None = None
    y_ids: Tensor | None = None
    x_views: Tensor | None = None
    y_views: Tensor | None = None
    x_present: Tensor | None = None
    y_present: Tensor | None = None
    without_self: bool = False
    without_same_id: bool = False
    without_same_view: bool = False
    without_positives: bool = False
    weights: PairWeights | None = None
    first_row: int = 0
    first_column: int = 0

    @property
    def plain(self) -> bool:
        """Whether the only rule is that positives are on the diagonal, so that no tile needs a mask."""
        return self.positives == "diagonal" and not (
            self.without_self
            or self.without_same_id
            or self.without_same_view
            or self.without_positives
            or self.x_present is not None
            or self.y_present is not None
        )

    @property
    def apart(self) -> bool:
        """Whether the exponentials of positives can be told from those of the others without a mask."""
        return self.plain and self.weights is None

    def block(self, r: slice, c: slice, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """(positive, excluded) of the tile as boolean [n, m] tensors; None where no pair of the tile is."""
        diagonal = self._diagonal(r, c, device)
        out: Tensor | None = None
        if self.x_present is not None:
            out = ~self.x_present[r, None].expand(r.stop - r.start, c.stop - c.start)
        if self.y_present is not None:
            out = _either(out, ~self.y_present[None, c].expand(r.stop - r.start, c.stop - c.start))
        if self.without_self:
            out = _either(out, diagonal)
        if self.without_same_view:
            assert self.x_views is not None
            assert self.y_views is not None
            out = _either(out, self.x_views[r, None] == self.y_views[None, c])
        same = None
        if self.positives == "ids" or self.without_same_id:
            assert self.x_ids is not None
            assert self.y_ids is not None
            same = self.x_ids[r, None] == self.y_ids[None, c]
        positive = {"none": None, "diagonal": diagonal, "ids": same}[self.positives]
        if positive is not None and out is not None:
            positive = positive & ~out
        excluded = out
        if self.without_same_id:
            assert same is not None
            excluded = _either(excluded, same if positive is None else same & ~positive)
        if self.without_positives:
            excluded = _either(excluded, positive)
        return positive, excluded

    def weight(self, r: slice, c: slice) -> Tensor | None:
        """The weights [n, m] of the tile's pairs in the denominators."""
        if self.weights is None:
            return None
        return self.weights[r, c] if isinstance(self.weights, Tensor) else self.weights(r, c)

    def diagonal_of(self, r: slice, c: slice) -> tuple[tuple[int, int], int]:
        """Where the global diagonal crosses the tile: first row and column inside it, and how many pairs."""
        offset = (self.first_row + r.start) - (self.first_column + c.start)
        row, column = max(0, -offset), max(0, offset)
        return (row, column), max(0, min(r.stop - r.start - row, c.stop - c.start - column))

    def transposed(self) -> "Pairs":
        """The same rules with rows and columns in each other's place."""
        weights = self.weights
        if weights is not None:
            weights = weights.T if isinstance(weights, Tensor) else _turned(weights)
        return Pairs(
            self.columns, self.rows, self.positives, self.y_ids, self.x_ids, self.y_views, self.x_views, self.y_present,
            self.x_present, self.without_self, self.without_same_id, self.without_same_view, self.without_positives,
            weights, self.first_column, self.first_row,
        )  # fmt: skip

    def _diagonal(self, r: slice, c: slice, device: torch.device) -> Tensor | None:
        (row, column), length = self.diagonal_of(r, c)
        if not length:
            return None
        mask = torch.zeros(r.stop - r.start, c.stop - c.start, dtype=torch.bool, device=device)
        mask[row : row + length, column : column + length].fill_diagonal_(True)
        return mask


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return a if b is None else b
    return a | b


def _turned(weights: Callable[[slice, slice], Tensor]) -> Callable[[slice, slice], Tensor]:
    return lambda r, c: weights(c, r).T
