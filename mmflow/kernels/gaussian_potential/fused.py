"""Uniformity in Triton: log-sums of tiles of potentials stay in registers; the gradient forms the tiles again.

Each program goes through a run of columns for its rows and leaves one log-sum-exp a row; the few runs of a row are
added afterwards, so that the order is fixed and nothing is atomic. The backward writes the shares of a bounded strip of
pairs in the whole sum, which a plain product then multiplies with the rows.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import interpreted

_STRIP_BYTES = 64 << 20
_LEAST_ROWS = 128
_PROGRAMS = 512


def uniformity(x: Tensor, t: float) -> Tensor:
    return _Uniformity.apply(x, t)


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, t: float) -> Tensor:
        n = len(x)
        # Distances do not change when all rows move, and are most exact near the origin.
        z = (x - x.mean(0)).contiguous()
        norms = (z * z).sum(1)
        block = _block()
        runs = min(triton.cdiv(n, block[1]), max(1, _PROGRAMS // triton.cdiv(n, block[0])))
        sums = z.new_empty(runs, n)
        _launch(z, norms, sums, sums, 0, n, t, runs, shares=False)
        total = torch.logsumexp(sums.flatten(), 0)
        ctx.save_for_backward(z, norms, total)
        ctx.t = t
        return total - math.log(n * (n - 1))

    @staticmethod
    @once_differentiable
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        z, norms, total = ctx.saved_tensors
        n = len(z)
        gradient = torch.empty_like(z)
        step = min(n, max(_LEAST_ROWS, _STRIP_BYTES // (4 * n)))
        for first in range(0, n, step):
            rows = slice(first, min(first + step, n))
            shares = z.new_empty(rows.stop - first, n)
            _launch(z, norms, total, shares, first, rows.stop, ctx.t, triton.cdiv(n, _block()[1]), shares=True)
            gradient[rows] = z[rows] * shares.sum(1, keepdim=True) - shares @ z
        return gradient.mul_(-4 * ctx.t * d[0]), None


def _block() -> tuple[int, int, int]:
    return (16, 16, 16) if interpreted() else (64, 64, 32)


def _launch(
    z: Tensor, norms: Tensor, total: Tensor, out: Tensor, first: int, stop: int, t: float, runs: int, *, shares: bool
) -> None:
    n, width = z.shape
    rows, columns, depth = _block()
    _potentials[(triton.cdiv(stop - first, rows), runs)](
        z, norms, total, out, first, stop, n, width, t, triton.cdiv(triton.cdiv(n, columns), runs),
        SHARES=shares, BN=rows, BM=columns, BD=depth, PRECISION="ieee" if interpreted() else "tf32x3",
    )  # fmt: skip


@triton.jit
def _potentials(
    z, norms, total, out, first, stop, n, width, t, tiles,
    SHARES: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i = first + tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    run = tl.program_id(1).to(tl.int64)
    i_in = i < stop
    row_norm = tl.load(norms + i, mask=i_in, other=0.0)
    top = tl.full((BN,), float("-inf"), tl.float32)
    mass = tl.zeros((BN,), tl.float32)
    for k in range(tiles):
        j = (run * tiles + k) * BM + tl.arange(0, BM)
        j_in = j < n
        p = tl.zeros((BN, BM), tl.float32)
        for d0 in range(0, width, BD):
            d = d0 + tl.arange(0, BD)
            a = tl.load(z + i[:, None] * width + d, mask=i_in[:, None] & (d < width), other=0.0)
            b = tl.load(z + j[None, :] * width + d[:, None], mask=j_in & (d < width)[:, None], other=0.0)
            p = tl.dot(a, b, p, input_precision=PRECISION)
        squared = row_norm[:, None] + tl.load(norms + j, mask=j_in, other=0.0) - 2.0 * p
        # Not tl.maximum, which would turn NaN into 0.
        squared = tl.where(squared < 0.0, 0.0, squared)
        e = tl.where(i_in[:, None] & j_in & (i[:, None] != j), -t * squared, float("-inf"))
        if SHARES:
            at = (i - first)[:, None] * n + j
            tl.store(out + at, tl.exp(e - tl.load(total)), mask=i_in[:, None] & j_in)
        else:
            new = tl.maximum(top, tl.max(e, 1))
            base = tl.where(new == float("-inf"), 0.0, new)
            mass = mass * tl.exp(top - base) + tl.sum(tl.exp(e - base[:, None]), 1)
            top = new
    if not SHARES:
        log_sum = tl.where(mass == 0.0, float("-inf"), top + tl.log(tl.where(mass == 0.0, 1.0, mass)))
        tl.store(out + run * n + i, log_sum, mask=i_in)
