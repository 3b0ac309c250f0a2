"""Scores of all pairs (i, j) tile by tile, and the symmetric cross-entropy over them, without the N x M matrix.

An operation that scores pairs (late interaction, Gram volume, alignment of sequences) describes one tile of them
forward and backward (`PairScores`); two functions walk over the tiles: `score_matrices` returns the matrices,
`contrast` the losses of the symmetric softmax over them.

`contrast` needs every tile twice when it is differentiated. Tiles are kept from the first pass as long as all of them
together stay below `KEPT_BYTES`, else they are computed again, so that memory grows with N + M.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE_BYTES = 8 << 20
KEPT_BYTES = 16 << 20


class Tile(NamedTuple):
    """Scores [n, m] as seen by the rows and by the columns, and what the backward of the tile needs besides."""

    by_row: Tensor
    by_column: Tensor
    state: Any = None
    state_bytes: int = 0


class PairScores(ABC):
    """Scores of rows [N] against columns [M] over saved tensors, and their gradients by tile."""

    symmetric = False
    """Whether both directions see one score: `by_column` of a tile is then its `by_row`."""

    rows: int
    columns: int
    row_step: int
    column_step: int

    @abstractmethod
    def tile(self, r: slice, c: slice) -> Tile:
        """The scores of rows `r` against columns `c`."""

    @abstractmethod
    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        """Adds the gradients that the tile's scores send to the inputs; `d_by_column` is None where symmetric."""

    @abstractmethod
    def gradients(self) -> tuple[Tensor | None, ...]:
        """The gradients added so far, in the order of the inputs."""

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        for i in range(0, self.rows, self.row_step):
            for j in range(0, self.columns, self.column_step):
                yield (
                    slice(i, min(i + self.row_step, self.rows)),
                    slice(j, min(j + self.column_step, self.columns)),
                )


class SymmetricSums:
    """Running log-sum-exps, sums and diagonals of two score matrices divided by a temperature."""

    def __init__(self, scores: PairScores, like: Tensor, x_present: Tensor | None, y_present: Tensor | None) -> None:
        def full(n: int, value: float) -> Tensor:
            return like.new_full((n,), value)

        self.x_present, self.y_present = x_present, y_present
        self.row_top, self.column_top = full(scores.rows, -torch.inf), full(scores.columns, -torch.inf)
        self.row_mass, self.column_mass = full(scores.rows, 0.0), full(scores.columns, 0.0)
        self.row_sum, self.column_sum = full(scores.rows, 0.0), full(scores.columns, 0.0)
        self.row_match, self.column_match = full(scores.rows, 0.0), full(scores.columns, 0.0)

    def add(self, r: slice, c: slice, by_row: Tensor, by_column: Tensor) -> None:
        out_row = None if self.y_present is None else ~self.y_present[None, c]
        out_column = None if self.x_present is None else ~self.x_present[r, None]
        _accumulate(self.row_top[r], self.row_mass[r], self.row_sum[r], by_row, out_row, 1)
        _accumulate(self.column_top[c], self.column_mass[c], self.column_sum[c], by_column, out_column, 0)
        start, stop = max(r.start, c.start), min(r.stop, c.stop)
        if start < stop:
            k = torch.arange(start, stop, device=by_row.device)
            self.row_match[start:stop] = by_row[k - r.start, k - c.start]
            self.column_match[start:stop] = by_column[k - r.start, k - c.start]

    def losses(self, smoothing: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of rows and columns, and the two log-sum-exps; +inf in the latter where a loss is left out.

        In double precision, where the device has it: a loss near 0 is the difference of two numbers that may be 1000.
        """
        n, m = len(self.row_top), len(self.column_top)
        row_kept = torch.arange(n, device=self.row_top.device) < m
        column_kept = torch.arange(m, device=self.row_top.device) < n
        shared = min(n, m)
        for present in (self.x_present, self.y_present):
            if present is not None:
                row_kept[:shared] &= present[:shared]
                column_kept[:shared] &= present[:shared]
        rows, row_lse = _loss(
            self.row_top, self.row_mass, self.row_sum, self.row_match, row_kept, _count(m, self.y_present), smoothing
        )
        columns, column_lse = _loss(
            self.column_top, self.column_mass, self.column_sum, self.column_match, column_kept,
            _count(n, self.x_present), smoothing,
        )  # fmt: skip
        dtype = self.row_top.dtype
        return rows.to(dtype), columns.to(dtype), row_lse, column_lse


def _accumulate(top: Tensor, mass: Tensor, total: Tensor, a: Tensor, out: Tensor | None, dim: int) -> None:
    total += (a if out is None else a.masked_fill(out, 0.0)).sum(dim)
    if out is not None:
        a = a.masked_fill(out, -torch.inf)
    new = torch.maximum(top, a.amax(dim))
    shift = torch.where(new.isinf(), torch.zeros_like(new), new)
    mass *= (top - shift).exp()
    mass += (a - shift.unsqueeze(dim)).exp().sum(dim)
    top.copy_(new)


def _loss(
    top: Tensor, mass: Tensor, total: Tensor, match: Tensor, kept: Tensor, count: float | Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    precise = top.dtype if top.device.type == "mps" else torch.float64
    lse = torch.where(kept, top.to(precise) + mass.to(precise).log(), torch.inf)
    loss = lse - (1 - smoothing) * match.to(precise)
    if smoothing:
        loss = loss - smoothing * total.to(precise) / count
    return loss.masked_fill(~kept, 0.0), lse


class Kept:
    """The tiles of the first pass, as long as they are small together."""

    def __init__(self, wanted: bool) -> None:
        self.tiles: list[Tile] | None = [] if wanted else None
        self.size = 0

    def add(self, tile: Tile) -> None:
        if self.tiles is None:
            return
        self.size += tile.state_bytes + tile.by_row.nbytes
        self.size += 0 if tile.by_column is tile.by_row else tile.by_column.nbytes
        if self.size > KEPT_BYTES:
            self.tiles = None
        else:
            self.tiles.append(tile)

    def walk(self, scores: PairScores) -> Iterator[tuple[slice, slice, Tile]]:
        for k, (r, c) in enumerate(scores.tiles()):
            yield r, c, scores.tile(r, c) if self.tiles is None else self.tiles[k]


class _Matrices(torch.autograd.Function):
    @staticmethod
    def forward(ctx, make: Callable[..., PairScores], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        scores = make(*tensors)
        like = next(t for t in tensors if t is not None)
        matrices = tuple(like.new_empty(scores.rows, scores.columns) for _ in range(1 if scores.symmetric else 2))
        ctx.kept = Kept(any(ctx.needs_input_grad))
        for r, c in scores.tiles():
            tile = scores.tile(r, c)
            for matrix, part in zip(matrices, tile, strict=False):
                matrix[r, c] = part
            ctx.kept.add(tile)
        ctx.make = make
        ctx.save_for_backward(*tensors)
        return matrices

    @staticmethod
    @once_differentiable
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        scores: PairScores = ctx.make(*ctx.saved_tensors)
        for r, c, tile in ctx.kept.walk(scores):
            scores.pull(r, c, tile, d[0][r, c], None if scores.symmetric else d[1][r, c])
        return None, *scores.gradients()


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        make: Callable[..., PairScores],
        smoothing: float,
        x_present: Tensor | None,
        y_present: Tensor | None,
        temperature: Tensor,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        scores = make(*tensors)
        sums = SymmetricSums(scores, temperature, x_present, y_present)
        ctx.kept = Kept(any(ctx.needs_input_grad))
        for r, c in scores.tiles():
            tile = scores.tile(r, c)
            sums.add(r, c, tile.by_row / temperature, tile.by_column / temperature)
            ctx.kept.add(tile)
        rows, columns, row_lse, column_lse = sums.losses(smoothing)
        ctx.make, ctx.smoothing = make, smoothing
        ctx.save_for_backward(x_present, y_present, temperature, row_lse, column_lse, *tensors)
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_present, y_present, temperature, row_lse, column_lse, *tensors = ctx.saved_tensors
        scores: PairScores = ctx.make(*tensors)
        d_temperature = torch.zeros_like(temperature)
        row_share = ctx.smoothing / _count(scores.columns, y_present)
        column_share = ctx.smoothing / _count(scores.rows, x_present)
        for r, c, tile in ctx.kept.walk(scores):
            by_row, by_column = tile.by_row / temperature, tile.by_column / temperature
            match = (slice(max(r.start, c.start), min(r.stop, c.stop)), r, c)
            g_row = _slope(by_row, row_lse[r], d[0][r], ctx.smoothing, row_share, match, y_present, c)
            g_column = _slope(
                by_column.T, column_lse[c], d[1][c], ctx.smoothing, column_share, (match[0], c, r), x_present, r
            ).T
            d_temperature -= ((g_row * by_row).sum() + (g_column * by_column).sum()) / temperature
            if scores.symmetric:
                scores.pull(r, c, tile, (g_row + g_column) / temperature, None)
            else:
                scores.pull(r, c, tile, g_row / temperature, g_column / temperature)
        return None, None, None, None, d_temperature, *scores.gradients()


def _slope(
    a: Tensor,
    lse: Tensor,
    d_loss: Tensor,
    smoothing: float,
    share: float | Tensor,
    match: tuple[slice, slice, slice],
    present: Tensor | None,
    columns: slice,
) -> Tensor:
    """The gradient of the losses with respect to a tile of logits whose rows are the softmax's rows."""
    # the part that rounding the log-sum-exp to the tile's dtype loses comes back as a factor
    base = lse.to(a.dtype)
    lost = torch.where(lse.isinf(), 0.0, base.to(lse.dtype) - lse).exp().to(a.dtype)
    g = (a - base[:, None]).exp_().mul_(lost[:, None])
    if smoothing:
        g -= share
    diagonal, r, c = match
    if diagonal.start < diagonal.stop:
        g[
            diagonal.start - r.start : diagonal.stop - r.start, diagonal.start - c.start : diagonal.stop - c.start
        ].diagonal().sub_(1 - smoothing)
    if present is not None:
        g.masked_fill_(~present[None, columns], 0.0)
    return g.mul_(torch.where(lse.isinf(), torch.zeros_like(d_loss), d_loss)[:, None])


def _count(n: int, present: Tensor | None) -> float | Tensor:
    return float(n) if present is None else present.sum().clamp_min(1)


def score_matrices(make: Callable[..., PairScores], *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """(by_row, by_column), each [N, M], of the scores that `make(*tensors)` describes; gradients for `tensors`.

    One matrix where the scores are symmetric.
    """
    return _Matrices.apply(make, *tensors)


def contrast(
    make: Callable[..., PairScores],
    temperature: Tensor,
    x_present: Tensor | None,
    y_present: Tensor | None,
    smoothing: float,
    *tensors: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropies [N] of the rows and [M] of the columns against the diagonal; 0 where either member is absent.

    Rows compare `by_row / temperature` over the columns present, columns `by_column / temperature` over the rows
    present. Gradients for `temperature` [] and `tensors`.
    """
    return _Contrast.apply(make, smoothing, x_present, y_present, temperature, *tensors)
