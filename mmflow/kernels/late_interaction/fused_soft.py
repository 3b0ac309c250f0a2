"""Soft maxima in Triton: one program per pair of items, one tile of similarities, both softmaxes.

The forward keeps, for each token, its soft maximum and the log-sum-exp under it. The backward computes the similarities
again and writes the gradient of a bounded tile of token pairs, which two plain products then multiply with the tokens.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles import Tile
from .fused_maxima import FusedTokens, similarities

_GRADIENT_BYTES = 64 << 20
_FLOOR = tl.constexpr(-1e30)


class FusedSoftMaxima(FusedTokens):
    """Soft maxima by kernel; the state of a tile is [2, n, m, P] and [2, n, m, T]: soft maxima, log-sum-exps."""

    def __init__(self, *tensors: Any) -> None:
        *shared, self.inner = tensors
        super().__init__(*shared, pairs=max(1, _GRADIENT_BYTES // (4 * shared[0].shape[1] * shared[1].shape[1])))

    def tile(self, r: slice, c: slice) -> Tile:
        n, m = r.stop - r.start, c.stop - c.start
        by_row, by_column = self.x.new_empty(n, m), self.x.new_empty(n, m)
        over_y = self.x.new_empty(2, n, m, self.x_tokens)
        over_x = self.x.new_empty(2, n, m, self.y_tokens)
        _soft_maxima[(n * m,)](
            *self.inputs(r, c), by_row, by_column, *over_y, *over_x,
            m, self.x_tokens, self.y_tokens, self.width, math.log2(math.e) / self.inner, **self.blocks(),
        )  # fmt: skip
        size = over_y.nbytes + over_x.nbytes
        return Tile(self.some(r, c, by_row), self.some(r, c, by_column), (over_y, over_x), size)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        over_y, over_x = tile.state
        d_row, d_column = self.some(r, c, d_by_row), self.some(r, c, d_by_column)
        n, m = d_row.shape
        self.dx_weight[r] += (over_y[0] * d_row.unsqueeze(2)).sum(1)
        self.dy_weight[c] += (over_x[0] * d_column.unsqueeze(2)).sum(0)
        x, y = self.x[r].flatten(0, 1), self.y[c].flatten(0, 1)
        g = torch.empty(len(x), len(y), dtype=torch.float32, device=x.device)
        _soft_slopes[(n * m,)](
            *self.inputs(r, c), d_row, d_column, *over_y, *over_x, g,
            m, self.x_tokens, self.y_tokens, self.width, math.log2(math.e) / self.inner, 1 / self.inner,
            **self.blocks(),
        )  # fmt: skip
        self.dx[r] += (g @ y).view(n, -1, self.width)
        self.dy[c] += (g.T @ x).view(m, -1, self.width)


@triton.jit
def _soft_maxima(
    x, y, x_weight, y_weight, x_open, y_open, by_row, by_column, over_y, y_lse, over_x, x_lse,
    m, p_count, t_count, width, rate,
    BP: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    i, j = pair // m, pair % m
    t = tl.arange(0, BT)
    t_in = t < t_count
    t_free = tl.load(y_open + j * t_count + t, mask=t_in, other=0) != 0
    peak = tl.zeros((BT,), tl.float32) + _FLOOR
    mass = tl.zeros((BT,), tl.float32)
    total = tl.zeros((BT,), tl.float32)
    row_sum = 0.0
    for start in range(0, p_count, BP):
        p = start + tl.arange(0, BP)
        p_in = p < p_count
        p_free = tl.load(x_open + i * p_count + p, mask=p_in, other=0) != 0
        s = similarities(x, y, i, j, p, t, p_count, t_count, width, BP, BT, BD, PRECISION)
        z = tl.where(t_free, s * rate, _FLOOR)
        top = tl.max(z, 1)
        e = tl.where(t_free, tl.exp2(z - top[:, None]), 0.0)
        # An item without tokens has mass 0; its similarity is set to 0 afterwards.
        row_mass = tl.sum(e, 1)
        row_mass = tl.where(row_mass == 0.0, 1.0, row_mass)
        pooled = tl.where(p_free, tl.sum(e * s, 1) / row_mass, 0.0)
        tl.store(over_y + pair * p_count + p, pooled, mask=p_in)
        tl.store(y_lse + pair * p_count + p, top + tl.log2(row_mass), mask=p_in)
        row_sum += tl.sum(tl.load(x_weight + i * p_count + p, mask=p_in, other=0.0) * pooled)
        z = tl.where(p_free[:, None], s * rate, _FLOOR)
        new = tl.maximum(peak, tl.max(z, 0))
        e = tl.where(p_free[:, None], tl.exp2(z - new), 0.0)
        factor = tl.exp2(peak - new)
        mass = mass * factor + tl.sum(e, 0)
        total = total * factor + tl.sum(e * s, 0)
        peak = new
    mass = tl.where(mass == 0.0, 1.0, mass)
    pooled = tl.where(t_free, total / mass, 0.0)
    tl.store(over_x + pair * t_count + t, pooled, mask=t_in)
    tl.store(x_lse + pair * t_count + t, peak + tl.log2(mass), mask=t_in)
    tl.store(by_row + pair, row_sum)
    tl.store(by_column + pair, tl.sum(tl.load(y_weight + j * t_count + t, mask=t_in, other=0.0) * pooled))


@triton.jit
def _soft_slopes(
    x, y, x_weight, y_weight, x_open, y_open, d_row, d_column, over_y, y_lse, over_x, x_lse, g,
    m, p_count, t_count, width, rate, inverse,
    BP: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """g[i P + p, j T + t]: what the similarity of two tokens adds to the loss, through both soft maxima."""
    pair = tl.program_id(0).to(tl.int64)
    i, j = pair // m, pair % m
    t = tl.arange(0, BT)
    t_in = t < t_count
    t_free = tl.load(y_open + j * t_count + t, mask=t_in, other=0) != 0
    to_x = tl.load(d_column + pair) * tl.load(y_weight + j * t_count + t, mask=t_in, other=0.0)
    x_pooled = tl.load(over_x + pair * t_count + t, mask=t_in, other=0.0)
    x_log = tl.load(x_lse + pair * t_count + t, mask=t_in, other=0.0)
    for start in range(0, p_count, BP):
        p = start + tl.arange(0, BP)
        p_in = p < p_count
        p_free = tl.load(x_open + i * p_count + p, mask=p_in, other=0) != 0
        s = similarities(x, y, i, j, p, t, p_count, t_count, width, BP, BT, BD, PRECISION)
        to_y = tl.load(d_row + pair) * tl.load(x_weight + i * p_count + p, mask=p_in, other=0.0)
        y_pooled = tl.load(over_y + pair * p_count + p, mask=p_in, other=0.0)
        y_log = tl.load(y_lse + pair * p_count + p, mask=p_in, other=0.0)
        z = s * rate
        share = tl.exp2(tl.where(t_free, z, _FLOOR) - tl.where(t_free, y_log[:, None], 0.0))
        slope = to_y[:, None] * share * (1.0 + (s - y_pooled[:, None]) * inverse)
        share = tl.exp2(tl.where(p_free[:, None], z, _FLOOR) - tl.where(p_free[:, None], x_log, 0.0))
        slope += to_x * share * (1.0 + (s - x_pooled) * inverse)
        at = (i * p_count + p[:, None]) * (m * t_count) + j * t_count + t
        tl.store(g + at, slope, mask=p_in[:, None] & t_in)
