"""Soft-DTW in Triton: a lane per pair walks its matrix row by row, its left and diagonal neighbors in registers.

Only the row above is read back, from the table that is written anyway, behind a barrier per row. Pairs lie next to each
other in memory, so that all accesses of a program are contiguous. The recursion runs in float32: a path's likelihood
carries the rounding of its cost over gamma, about 1e-7 of that ratio.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted
from ..tiles import score_matrices
from .chunked import Alignments, SoftDtw, align


def soft_dtw(cost: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor) -> Tensor:
    return SoftDtw.apply(cost, gamma, x_lengths, y_lengths, sweep)


def pair_soft_dtw(x: Tensor, y: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor, metric: str) -> Tensor:
    fused = partial(align, sweep=sweep)
    return score_matrices(partial(Alignments, fused, gamma, x_lengths, y_lengths, metric), x, y)[0]


def sweep(gain: Tensor, *, hard: bool) -> Tensor:
    """As `chunked.sweep`, for the soft recursion alone."""
    rows, columns, batch = gain.shape
    gain = gain.float().contiguous()
    table = torch.empty_like(gain)
    block = 16 if interpreted() else 32
    _sweep[(triton.cdiv(batch, block),)](gain, table, rows, columns, batch, BB=block)
    return table.double()


@triton.jit
def _sweep(gain, table, rows, columns, batch, BB: tl.constexpr):
    lane = tl.program_id(0).to(tl.int64) * BB + tl.arange(0, BB)
    inside = lane < batch
    nothing = tl.full((BB,), float("-inf"), tl.float32)
    at = lane
    for i in range(rows):
        left = nothing
        corner = nothing
        for j in range(columns):
            up = tl.load(table + at - columns * batch, mask=inside & (i > 0), other=float("-inf"))
            top = tl.maximum(tl.maximum(left, up), corner)
            base = tl.where(top == float("-inf"), 0.0, top)
            mass = tl.exp(left - base) + tl.exp(up - base) + tl.exp(corner - base)
            before = tl.where((i == 0) & (j == 0), 0.0, base + tl.log(mass))
            left = before + tl.load(gain + at, mask=inside, other=0.0)
            tl.store(table + at, left, mask=inside)
            corner = up
            at += batch
        tl.debug_barrier()
