"""Match probabilities in Triton: a tile of items, each with all its samples, is reduced in registers.

Samples are padded to a power of two inside the kernel only, so that an item's samples are an axis of the tile. The
backward forms the distances again and writes the gradient of a bounded tile of sample pairs, which two plain products
then multiply with the samples.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted
from ..tiles import Tile, score_matrices
from .chunked import SampleContrast, SamplePairs

_TILE_BYTES = 64 << 20


def match_log_probability(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    match, no_match = score_matrices(FusedSamplePairs, x, y, scale, shift)
    return match, no_match


def sample_contrast(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return SampleContrast.apply(FusedSamplePairs, x, y, scale, shift)


class FusedSamplePairs(SamplePairs):
    """Log-probabilities by kernel; a tile has no state."""

    def __init__(self, *tensors: Any) -> None:
        super().__init__(*tensors)
        self.x, self.y = self.x.contiguous(), self.y.contiguous()
        self.x_norms, self.y_norms = (self.x * self.x).sum(2), (self.y * self.y).sum(2)
        side = max(1, int((_TILE_BYTES / 4 / (self.x.shape[1] * self.y.shape[1])) ** 0.5))
        self.row_step, self.column_step = min(self.rows, side), min(self.columns, side)

    def tile(self, r: slice, c: slice) -> Tile:
        match = self.x.new_empty(r.stop - r.start, c.stop - c.start)
        no_match = match.clone()
        self._launch(r, c, match, no_match, match, match, match, backward=False)
        return Tile(match, no_match)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        x, y = self.x[r].flatten(0, 1), self.y[c].flatten(0, 1)
        g = x.new_empty(len(x), len(y))
        d_shift, d_scale = self._launch(
            r, c, tile.by_row, tile.by_column, d_by_row.contiguous(), d_by_column.contiguous(), g, backward=True
        )
        self.d_shift += d_shift.sum()
        self.d_scale -= d_scale.sum()
        self.dx[r] += (x * g.sum(1, keepdim=True) - g @ y).view(-1, *self.x.shape[1:])
        self.dy[c] += (y * g.sum(0)[:, None] - g.T @ x).view(-1, *self.y.shape[1:])

    def _launch(
        self, r: slice, c: slice, match: Tensor, no_match: Tensor, d_match: Tensor, d_no_match: Tensor, g: Tensor,
        *, backward: bool,
    ) -> Tensor:  # fmt: skip
        """Writes `match` and `no_match`, or reads them and writes `g`; [2, programs]: the parts of d shift, d scale."""
        n, m = r.stop - r.start, c.stop - c.start
        j, k = self.x.shape[1], self.y.shape[1]
        x_padded, y_padded = triton.next_power_of_2(j), triton.next_power_of_2(k)
        side, depth = (16, 16) if interpreted() else (64, 32)
        x_items, y_items = max(1, side // x_padded), max(1, side // y_padded)
        grid = (triton.cdiv(n, x_items), triton.cdiv(m, y_items))
        parts = self.x.new_empty(2, grid[0] * grid[1])
        _pairs[grid](
            self.x[r], self.y[c], self.x_norms[r], self.y_norms[c], self.scale, self.shift,
            match, no_match, d_match, d_no_match, g, parts,
            n, m, j, k, self.x.shape[2], math.log(j * k),
            BACKWARD=backward, BI=x_items, JP=x_padded, BJ=y_items, KP=y_padded, BD=depth,
            PRECISION="ieee" if interpreted() else "tf32x3",
        )  # fmt: skip
        return parts


@triton.jit
def _log1p(e):
    """log(1 + e) for 0 <= e <= 1, to the last digits (Kahan's correction of the rounded sum)."""
    u = 1.0 + e
    rounded = tl.where(u == 1.0, 1.0, u - 1.0)
    return tl.where(u == 1.0, e, tl.log(u) * (e / rounded))


@triton.jit
def _log_sum(logs, BI: tl.constexpr, JP: tl.constexpr, BJ: tl.constexpr, KP: tl.constexpr):
    """[BI, BJ]: log-sum-exp of a tile over the samples of both items."""
    a = tl.reshape(logs, (BI, JP, BJ, KP))
    top = tl.max(tl.max(a, 3), 1)
    base = tl.where(top == float("-inf"), 0.0, top)
    mass = tl.sum(tl.sum(tl.exp(a - base[:, None, :, None]), 3), 1)
    return tl.where(mass == 0.0, float("-inf"), base + tl.log(tl.where(mass == 0.0, 1.0, mass)))


@triton.jit
def _pairs(
    x, y, x_norms, y_norms, scale, shift, match, no_match, d_match, d_no_match, g, parts,
    n, m, j_count, k_count, width, log_count,
    BACKWARD: tl.constexpr, BI: tl.constexpr, JP: tl.constexpr, BJ: tl.constexpr, KP: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    first_i, first_j = tl.program_id(0).to(tl.int64) * BI, tl.program_id(1).to(tl.int64) * BJ
    r, c = tl.arange(0, BI * JP), tl.arange(0, BJ * KP)
    i, j = first_i + r // JP, first_j + c // KP
    r_in, c_in = (i < n) & (r % JP < j_count), (j < m) & (c % KP < k_count)
    row, column = i * j_count + r % JP, j * k_count + c % KP
    inside = r_in[:, None] & c_in
    p = tl.zeros((BI * JP, BJ * KP), tl.float32)
    for d0 in range(0, width, BD):
        d = d0 + tl.arange(0, BD)
        a = tl.load(x + row[:, None] * width + d, mask=r_in[:, None] & (d < width), other=0.0)
        b = tl.load(y + column[None, :] * width + d[:, None], mask=c_in & (d < width)[:, None], other=0.0)
        p = tl.dot(a, b, p, input_precision=PRECISION)
    squared = tl.load(x_norms + row, mask=r_in, other=0.0)[:, None] + tl.load(y_norms + column, mask=c_in, other=0.0)
    squared -= 2.0 * p
    # Not tl.maximum, which would turn NaN into 0.
    distance = tl.sqrt(tl.where(squared < 0.0, 0.0, squared) + 1e-6)
    slope = tl.load(scale)
    score = 2.0 * (tl.load(shift) - slope * distance)
    e = tl.exp(-tl.abs(score))
    tail = _log1p(e)
    log_match = tl.where(score < 0.0, score, 0.0) - tail
    log_no_match = tl.where(score > 0.0, -score, 0.0) - tail
    if BACKWARD:
        at = i[:, None] * m + j
        near = 1.0 / (1.0 + e)
        far = e * near
        share = tl.exp(log_match - tl.load(match + at, mask=inside, other=0.0) - log_count)
        d_score = share * tl.where(score < 0.0, near, far) * tl.load(d_match + at, mask=inside, other=0.0)
        share = tl.exp(log_no_match - tl.load(no_match + at, mask=inside, other=0.0) - log_count)
        d_score -= share * tl.where(score < 0.0, far, near) * tl.load(d_no_match + at, mask=inside, other=0.0)
        d_score = tl.where(inside, 2.0 * d_score, 0.0)
        program = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
        programs = tl.num_programs(0).to(tl.int64) * tl.num_programs(1)
        tl.store(parts + program, tl.sum(tl.sum(d_score, 1), 0))
        tl.store(parts + programs + program, tl.sum(tl.sum(d_score * distance, 1), 0))
        at = row[:, None] * (m * k_count) + column
        tl.store(g + at, -slope * d_score / distance, mask=inside)
    else:
        to_i, to_j = first_i + tl.arange(0, BI), first_j + tl.arange(0, BJ)
        at = to_i[:, None] * m + to_j
        keep = (to_i < n)[:, None] & (to_j < m)
        low = float("-inf")
        tl.store(match + at, _log_sum(tl.where(inside, log_match, low), BI, JP, BJ, KP) - log_count, mask=keep)
        tl.store(no_match + at, _log_sum(tl.where(inside, log_no_match, low), BI, JP, BJ, KP) - log_count, mask=keep)
