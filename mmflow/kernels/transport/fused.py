"""Sinkhorn's iteration in Triton: each half step is one pass of running log-sum-exps over scores formed in registers.

Nothing of size N x M is stored when features are given. Rows and columns take the same kernel, the two sides in each
other's place; each potential has one writer and one order of additions.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted


def sinkhorn(
    x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    if y is not None:
        x, y = x.to(a.dtype).contiguous(), y.to(a.dtype).contiguous()
    matrices = x.flatten(0, -3) if x.dim() > 2 else x[None]
    log_a, log_b = (marginal.log().reshape(len(matrices), -1).contiguous() for marginal in (a, b))
    f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
    for _ in range(iterations):
        g = _half_step(matrices, y, f, log_b, epsilon, columns=True)
        f = _half_step(matrices, y, g, log_a, epsilon, columns=False)
    return f.view(a.shape), g.view(b.shape)


def _half_step(x: Tensor, y: Tensor | None, other: Tensor, log_marginal: Tensor, epsilon: float, *, columns: bool):
    out = torch.empty_like(log_marginal)
    n, m = log_marginal.shape[1], other.shape[1]
    block = (16, 32, 16) if interpreted() else (64, 64, 32)
    if y is None:
        own, met, width = x, x, 0
        each, row, column = x.stride()
        strides = (each, column, row) if columns else (each, row, column)
    else:
        own, met = (y, x[0]) if columns else (x[0], y)
        width, strides = x.shape[2], (0, 0, 0)
    # one axis: the others end at 65535, and there may be more matrices
    _softmin[(triton.cdiv(n, block[0]) * len(x),)](
        own, met, other, log_marginal, out, n, m, width, *strides, epsilon,
        FEATURES=y is not None, BN=block[0], BM=block[1], BD=block[2], PRECISION="ieee" if interpreted() else "tf32x3",
    )  # fmt: skip
    return out


@triton.jit
def _softmin(
    own, met, other, log_marginal, out, n, m, width, each, own_stride, met_stride, epsilon,
    FEATURES: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(n, BN)
    matrix = program // blocks
    i = program % blocks * BN + tl.arange(0, BN)
    i_in = i < n
    top = tl.full((BN,), float("-inf"), tl.float32)
    mass = tl.zeros((BN,), tl.float32)
    for start in range(0, m, BM):
        j = program * 0 + start + tl.arange(0, BM)
        j_in = j < m
        inside = i_in[:, None] & j_in
        if FEATURES:
            s = tl.zeros((BN, BM), tl.float32)
            for d0 in range(0, width, BD):
                d = d0 + tl.arange(0, BD)
                p = tl.load(own + i[:, None] * width + d, mask=i_in[:, None] & (d < width), other=0.0)
                q = tl.load(met + j[None, :] * width + d[:, None], mask=j_in & (d < width)[:, None], other=0.0)
                s = tl.dot(p, q, s, input_precision=PRECISION)
        else:
            s = tl.load(own + matrix * each + i[:, None] * own_stride + j * met_stride, mask=inside, other=0.0).to(
                tl.float32
            )
        potential = tl.load(other + matrix * m + j, mask=j_in, other=float("-inf"))
        s = tl.where(inside, (s + potential) / epsilon, float("-inf"))
        new = tl.maximum(top, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        mass = mass * tl.exp(top - base) + tl.sum(tl.exp(s - base[:, None]), 1)
        top = new
    marginal = tl.load(log_marginal + matrix * n + i, mask=i_in, other=0.0)
    tl.store(out + matrix * n + i, epsilon * (marginal - top - tl.log(mass)), mask=i_in)
