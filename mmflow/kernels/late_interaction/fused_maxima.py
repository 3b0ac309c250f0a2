"""Hard maxima in Triton: one program per pair of items, one tile of similarities, both maxima.

The forward keeps the indices of the maxima (int16). The backward builds from them, in registers, the sparse matrix that
says how much of each token of y flows into each token of x, and multiplies it with y: tensor cores instead of gathers,
one writer per output and one order of additions, hence the same bits every time and no atomics.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted
from ..tiles import PairScores, Tile

_INDEX_BYTES = 256 << 20
_FLOOR = tl.constexpr(-1e30)


class FusedTokens(PairScores):
    """The tokens as the kernels take them, and their gradients; a tile holds at most `pairs` pairs."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        x_weight: Tensor,
        y_weight: Tensor,
        x_valid: Tensor | None,
        y_valid: Tensor | None,
        pairs: int,
    ) -> None:
        self.x, self.y, self.x_weight, self.y_weight = (t.contiguous() for t in (x, y, x_weight, y_weight))
        self.rows, self.x_tokens, self.width = x.shape
        self.columns, self.y_tokens, _ = y.shape
        # A token takes part where this is 1.
        self.x_open, self.y_open = (
            torch.ones(t.shape[:2], dtype=torch.int8, device=t.device) if v is None else v.to(torch.int8).contiguous()
            for t, v in ((x, x_valid), (y, y_valid))
        )
        self.column_step = min(self.columns, pairs)
        self.row_step = min(self.rows, max(1, pairs // self.column_step))
        self.dx, self.dy = torch.zeros_like(self.x), torch.zeros_like(self.y)
        self.dx_weight, self.dy_weight = torch.zeros_like(self.x_weight), torch.zeros_like(self.y_weight)
        self.some_x, self.some_y = self.x_open.any(1), self.y_open.any(1)

    def inputs(self, r: slice, c: slice) -> tuple[Tensor, ...]:
        return self.x[r], self.y[c], self.x_weight[r], self.y_weight[c], self.x_open[r], self.y_open[c]

    def some(self, r: slice, c: slice, tile: Tensor) -> Tensor:
        """Zero where either item has no valid token."""
        return tile.masked_fill(~(self.some_x[r, None] & self.some_y[None, c]), 0.0).contiguous()

    def blocks(self) -> dict[str, int | str]:
        """Tokens of x, of y (all of them) and features of one step of a kernel, and the precision of its products."""
        block_t = max(16, triton.next_power_of_2(self.y_tokens))
        block_p = 16 if interpreted() else max(16, min(64, triton.next_power_of_2(self.x_tokens), 16384 // block_t))
        return {"BP": block_p, "BT": block_t, "BD": 16 if interpreted() else 32, "PRECISION": _precision()}

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.dy, self.dx_weight, self.dy_weight, None, None


class FusedMaxima(FusedTokens):
    """Maxima by kernel; the state of a tile is its index tensors [n, m, P] and [n, m, T]."""

    def __init__(self, *tensors: Any) -> None:
        tokens = tensors[0].shape[1] + tensors[1].shape[1]
        super().__init__(*tensors, pairs=max(1, _INDEX_BYTES // (2 * tokens)))

    def tile(self, r: slice, c: slice) -> Tile:
        n, m = r.stop - r.start, c.stop - c.start
        by_row, by_column = self.x.new_empty(n, m), self.x.new_empty(n, m)
        t_index = torch.empty(n, m, self.x_tokens, dtype=torch.int16, device=self.x.device)
        p_index = torch.empty(n, m, self.y_tokens, dtype=torch.int16, device=self.x.device)
        _maxima[(n * m,)](
            *self.inputs(r, c), by_row, by_column, t_index, p_index,
            m, self.x_tokens, self.y_tokens, self.width, **self.blocks(),
        )  # fmt: skip
        state = (t_index, p_index)
        size = t_index.nbytes + p_index.nbytes
        return Tile(self.some(r, c, by_row), self.some(r, c, by_column), state, size)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        t_index, p_index = tile.state
        d_row, d_column = self.some(r, c, d_by_row), self.some(r, c, d_by_column)
        n, m = d_row.shape
        x, y, a, b = self.x[r], self.y[c], self.x_weight[r], self.y_weight[c]
        gain = _pull(t_index, p_index, d_row, d_column, y, b, n, m, 1)
        self.dx[r] += gain[0] * a.unsqueeze(2) + gain[1]
        self.dx_weight[r] += (x * gain[0]).sum(2)
        gain = _pull(p_index, t_index, d_column, d_row, x, a, m, n, 0)
        self.dy[c] += gain[0] * b.unsqueeze(2) + gain[1]
        self.dy_weight[c] += (y * gain[0]).sum(2)


def _pull(
    own: Tensor,
    other: Tensor,
    d_own: Tensor,
    d_other: Tensor,
    tokens: Tensor,
    weight: Tensor,
    n: int,
    m: int,
    rows: int,
) -> Tensor:
    """[2, n, P, D]: what flows to each own token from the maxima it took (unweighted) and from those taken of it."""
    p, t, width = own.shape[2], tokens.shape[1], tokens.shape[2]
    out = tokens.new_empty(2, n, p, width)
    block_p, block_t, block_d = (16, 16, 16) if interpreted() else (64, 32, 64)
    pair_i, pair_j = (m, 1) if rows else (1, n)
    grid = (n, triton.cdiv(p, block_p), triton.cdiv(width, block_d))
    _flow[grid](
        own, other, d_own, d_other, tokens, weight, out, n, m, p, t, width, pair_i, pair_j,
        BP=block_p, BT=block_t, BD=block_d, PRECISION=_precision(),
    )  # fmt: skip
    return out


def _precision() -> str:
    return "ieee" if interpreted() else "tf32x3"


@triton.jit
def similarities(
    x, y, i, j, p, t, p_count, t_count, width,
    BP: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """[BP, BT]: products of tokens p of item i of x with tokens t of item j of y; 0 beyond the last token."""
    p_in, t_in = p < p_count, t < t_count
    s = tl.zeros((BP, BT), tl.float32)
    for d0 in range(0, width, BD):
        d = d0 + tl.arange(0, BD)
        a = tl.load(x + (i * p_count + p[:, None]) * width + d, mask=p_in[:, None] & (d < width), other=0.0)
        b = tl.load(y + (j * t_count + t[None, :]) * width + d[:, None], mask=t_in & (d < width)[:, None], other=0.0)
        s = tl.dot(a, b, s, input_precision=PRECISION)
    return s


@triton.jit
def _maxima(
    x, y, x_weight, y_weight, x_open, y_open, by_row, by_column, t_index, p_index,
    m, p_count, t_count, width,
    BP: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    i, j = pair // m, pair % m
    t = tl.arange(0, BT)
    t_in = t < t_count
    t_free = tl.load(y_open + j * t_count + t, mask=t_in, other=0) != 0
    best = tl.full((BT,), float("-inf"), tl.float32)
    best_at = tl.zeros((BT,), tl.int32)
    row_sum = 0.0
    for start in range(0, p_count, BP):
        p = start + tl.arange(0, BP)
        p_in = p < p_count
        p_free = tl.load(x_open + i * p_count + p, mask=p_in, other=0) != 0
        s = similarities(x, y, i, j, p, t, p_count, t_count, width, BP, BT, BD, PRECISION)
        over_t = tl.where(t_free, s, _FLOOR)
        top = tl.max(over_t, 1)
        # The first of equal maxima.
        at = tl.min(tl.where(over_t == top[:, None], t, BT), 1)
        tl.store(t_index + pair * p_count + p, at.to(tl.int16), mask=p_in)
        row_sum += tl.sum(tl.load(x_weight + i * p_count + p, mask=p_in, other=0.0) * tl.where(p_free, top, 0.0))
        over_p = tl.where(p_free[:, None], s, _FLOOR)
        over_p = tl.where(p_in[:, None], over_p, float("-inf"))
        top_p = tl.max(over_p, 0)
        at_p = tl.min(tl.where(over_p == top_p, p[:, None], p_count), 0)
        better = top_p > best
        best = tl.where(better, top_p, best)
        best_at = tl.where(better, at_p, best_at)
    tl.store(p_index + pair * t_count + t, best_at.to(tl.int16), mask=t_in)
    tl.store(by_row + pair, row_sum)
    weight = tl.load(y_weight + j * t_count + t, mask=t_in, other=0.0)
    tl.store(by_column + pair, tl.sum(weight * tl.where(t_free, best, 0.0)))


@triton.jit
def _flow(
    own, other, d_own, d_other, tokens, weight, out, n, m, p_count, t_count, width, pair_i, pair_j,
    BP: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * BP + tl.arange(0, BP)
    d = tl.program_id(2) * BD + tl.arange(0, BD)
    p_in, d_in = p < p_count, d < width
    taken = tl.zeros((BP, BD), tl.float32)
    given = tl.zeros((BP, BD), tl.float32)
    zero = i * 0  # keeps offsets in 64 bits
    for j in range(m):
        pair = i * pair_i + j * pair_j
        g_own, g_other = tl.load(d_own + pair), tl.load(d_other + pair)
        met = tl.load(own + pair * p_count + p, mask=p_in, other=-1).to(tl.int32)
        for t0 in range(0, t_count, BT):
            t = t0 + tl.arange(0, BT)
            t_in = t < t_count
            rows = tl.load(
                tokens + ((zero + j) * t_count + t[:, None]) * width + d, mask=t_in[:, None] & d_in, other=0.0
            )
            hit = tl.where(met[:, None] == t, g_own, 0.0)
            taken = tl.dot(hit, rows, taken, input_precision=PRECISION)
            back = tl.load(other + pair * t_count + t, mask=t_in, other=-1).to(tl.int32)
            share = tl.load(weight + j * t_count + t, mask=t_in, other=0.0) * g_other
            hit = tl.where(p[:, None] == back, share, 0.0)
            given = tl.dot(hit, rows, given, input_precision=PRECISION)
    at = (i * p_count + p[:, None]) * width + d
    keep = p_in[:, None] & d_in
    tl.store(out + at, taken, mask=keep)
    tl.store(out + (zero + n) * p_count * width + at, given, mask=keep)
