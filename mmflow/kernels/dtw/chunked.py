"""Time warping by anti-diagonals, for a batch at once.

In units of -1/gamma the recursion is a log-sum-exp, so its value is the log of a sum over paths, and how likely a cell
is follows from the sum over paths up to it and the sum over paths from it. The second is the first on the reversed
matrix: both run in one sweep, the reversed problems as further members of the batch. Diagonals lie one after another
with the batch contiguous, so that a step is two `logaddexp` and an addition on contiguous memory.

Everything runs in float64: a path's cost over gamma is large, and its rounding is what a cell's likelihood would show.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import tiles
from ..tiles import PairScores, Tile, score_matrices

_SWEEP_BYTES = 16 << 20

Sweep = Callable[..., Tensor]
"""From gains [T, U, B] and hard=bool to the logs of path sums up to each cell, [T, U, B]."""


def soft_dtw(cost: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor) -> Tensor:
    return SoftDtw.apply(cost, gamma, x_lengths, y_lengths, sweep)


def pair_soft_dtw(x: Tensor, y: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor, metric: str) -> Tensor:
    return score_matrices(partial(Alignments, partial(align, sweep=sweep), gamma, x_lengths, y_lengths, metric), x, y)[
        0
    ]


class SoftDtw(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cost: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor, sweep: Sweep) -> Tensor:
        values, likely = align(cost, gamma, x_lengths, y_lengths, ctx.needs_input_grad[0], sweep)
        ctx.save_for_backward(likely)
        ctx.dtype = cost.dtype
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (likely,) = ctx.saved_tensors
        return (likely * d[0][:, None, None]).to(ctx.dtype), None, None, None, None


def align(
    cost: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor, needs_alignment: bool, sweep: Sweep
) -> tuple[Tensor, Tensor | None]:
    """Values [B] of costs [B, T, U], and the alignments [B, T, U] where they are asked."""
    batch, rows, columns = cost.shape
    dtype = torch.promote_types(cost.dtype, torch.float32)
    values = cost.new_empty(batch, dtype=dtype)
    likely = cost.new_empty(cost.shape, dtype=dtype) if needs_alignment else None
    per_pair = 4 * (rows + 1) * (rows + columns + 1) * 8
    step = max(1, _SWEEP_BYTES // per_pair)
    for start in range(0, batch, step):
        at = slice(start, start + step)
        x_len, y_len = x_lengths[at], y_lengths[at]
        # [T, U, B], as logarithms of what a cell multiplies a path's weight by.
        gain = cost[at].detach().permute(1, 2, 0).double() * (-1 / gamma if gamma else -1.0)
        if gamma and likely is not None:
            i, j = _reversed_cells(rows, columns, x_len, y_len)
            member = torch.arange(len(x_len), device=cost.device)
            both = sweep(torch.cat([gain, gain[i[:, None], j, member]], 2), hard=False)
            until, onward = both.chunk(2, 2)
            end = until[x_len - 1, y_len - 1, member]
            inside = (torch.arange(rows, device=cost.device)[:, None, None] < x_len) & (
                torch.arange(columns, device=cost.device)[:, None] < y_len
            )
            logs = until + onward[i[:, None], j, member] - gain - end
            likely[at] = logs.exp().masked_fill(~inside, 0.0).permute(2, 0, 1)
        else:
            until = sweep(gain, hard=not gamma)
            end = until[x_len - 1, y_len - 1, torch.arange(len(x_len), device=cost.device)]
            if likely is not None:
                likely[at] = _path(until, x_len, y_len).permute(2, 0, 1)
        values[at] = end * -(gamma or 1.0)
    return values, likely


def sweep(gain: Tensor, *, hard: bool) -> Tensor:
    """[T, U, B]: log of the summed (or largest) weight of the paths from (0, 0) to each cell, that cell included."""
    rows, columns, batch = gain.shape
    # Diagonal k of a matrix lies at [k + 2], its row i at [i + 1]; cells outside of the matrix have weight 0.
    table = gain.new_full((rows + columns + 1, rows + 1, batch), -torch.inf)
    table[0, 0] = 0.0
    cells = table.as_strided(
        (rows, columns, batch), ((rows + 2) * batch, (rows + 1) * batch, 1), (2 * (rows + 1) + 1) * batch
    )
    cells.copy_(gain)
    add = torch.maximum if hard else torch.logaddexp
    scratch = gain.new_empty(rows * batch)
    for k in range(rows + columns - 1):
        low, high = max(0, k - columns + 1), min(rows, k + 1)
        before = scratch[: (high - low) * batch].view(high - low, batch)
        add(table[k + 1, low + 1 : high + 1], table[k + 1, low:high], out=before)
        add(before, table[k, low:high], out=before)
        table[k + 2, low + 1 : high + 1].add_(before)
    return cells


def _reversed_cells(rows: int, columns: int, x_len: Tensor, y_len: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [T, B] and [U, B] of each member's cells counted from its own end."""
    i = (x_len - 1 - torch.arange(rows, device=x_len.device)[:, None]).clamp_min(0)
    j = (y_len - 1 - torch.arange(columns, device=x_len.device)[:, None]).clamp_min(0)
    return i, j


def _path(until: Tensor, x_len: Tensor, y_len: Tensor) -> Tensor:
    """1 along each member's best path, walked back from its end."""
    rows, columns, batch = until.shape
    member = torch.arange(batch, device=until.device)
    padded = until.new_full((rows + 1, columns + 1, batch), -torch.inf)
    padded[1:, 1:] = until
    on_path = torch.zeros_like(until)
    i, j = x_len.clone(), y_len.clone()
    for _ in range(rows + columns - 1):
        on_path[i - 1, j - 1, member] = 1.0
        before = torch.stack([padded[i - 1, j - 1, member], padded[i - 1, j, member], padded[i, j - 1, member]])
        choice = before.argmax(0)
        # At (1, 1) every predecessor is outside: the walk stays there.
        moving = before.amax(0) > -torch.inf
        i = i - (moving & (choice != 2)).long()
        j = j - (moving & (choice != 1)).long()
    return on_path


class Alignments(PairScores):
    """Values of all pairs; the state of a tile is its alignments [n, m, T, U]."""

    symmetric = True

    def __init__(
        self, align: Any, gamma: float, x_lengths: Tensor, y_lengths: Tensor, metric: str, *tensors: Any
    ) -> None:
        self.align, self.gamma, self.metric = align, gamma, metric
        self.x_lengths, self.y_lengths = x_lengths, y_lengths
        self.x, self.y = tensors
        self.rows, self.columns = len(self.x), len(self.y)
        t, u = self.x.shape[1], self.y.shape[1]
        pairs = max(1, _SWEEP_BYTES // (4 * (t + 1) * (t + u + 1) * 8))
        self.row_step = max(1, min(self.rows, int(pairs**0.5)))
        self.column_step = max(1, min(self.columns, pairs // self.row_step))
        self.keeps = self.rows * self.columns * t * u * self.x.element_size() <= tiles.KEPT_BYTES
        self.dx, self.dy = (torch.zeros_like(s, memory_format=torch.contiguous_format) for s in (self.x, self.y))

    def _align(self, r: slice, c: slice, needs_alignment: bool) -> tuple[Tensor, Tensor | None]:
        x, y = self.x[r], self.y[c]
        n, m = len(x), len(y)
        cost = torch.einsum("itd,jud->ijtu", x, y)
        if self.metric == "dot":
            cost = 1 - cost
        else:
            cost = (x * x).sum(2)[:, None, :, None] + (y * y).sum(2)[:, None, :] - 2 * cost
        rows, columns = self.x_lengths[r, None].expand(n, m), self.y_lengths[c].expand(n, m)
        values, likely = self.align(
            cost.flatten(0, 1), self.gamma, rows.reshape(-1), columns.reshape(-1), needs_alignment
        )
        return values.view(n, m), None if likely is None else likely.view(cost.shape)

    def tile(self, r: slice, c: slice) -> Tile:
        values, likely = self._align(r, c, self.keeps)
        return Tile(values, values, likely, 0 if likely is None else likely.nbytes)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        likely = self._align(r, c, True)[1] if tile.state is None else tile.state
        x, y = self.x[r], self.y[c]
        assert likely is not None
        d_cost = (likely * d_by_row[:, :, None, None]).transpose(1, 2)
        flat = d_cost.reshape(x.shape[0] * x.shape[1], -1)
        factor = -1 if self.metric == "dot" else -2
        self.dx[r] += factor * (flat @ y.flatten(0, 1)).view_as(x)
        self.dy[c] += factor * (flat.T @ x.flatten(0, 1)).view_as(y)
        if self.metric == "sqeuclidean":
            self.dx[r] += 2 * x * flat.sum(1).view(*x.shape[:2], 1)
            self.dy[c] += 2 * y * flat.sum(0).view(*y.shape[:2], 1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.dy
