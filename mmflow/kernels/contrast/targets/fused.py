"""Soft targets in Triton: what kernels read of a teacher, and its scores by super-tile."""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles.fused import (
    LOG2E,
    SUPER,
    common,
    pair_tile,
    precision_of,
    rules_of,
    scale_of,
    score_tile,
    sizes_for,
    step_of,
)
from .chunked import Teacher

_LOG2E = tl.constexpr(LOG2E)


class Soft(NamedTuple):
    """A `Teacher` as kernels read it, as one argument: its matrices, and of each side sums (base 2) and bars."""

    a: Tensor
    b: Tensor
    scale: Tensor
    scale_step: int | None
    width: int
    a_stride: int
    b_stride: int
    row_lse: Tensor | None
    row_bar: Tensor | None
    column_lse: Tensor | None
    column_bar: Tensor | None
    hard: float


def soft_of(teacher: Teacher) -> Soft:
    """The argument by which kernels know a teacher; launches with it use the tile sizes of float32."""
    (a, b), scale = common(teacher.a, teacher.b), teacher.scale.float().contiguous()
    sums, bars = [], []
    for size, lse, least in zip((a.shape[0], b.shape[0]), teacher.lse, teacher.least, strict=True):
        # an empty row's log-sum-exp is -inf, which would turn exp2(t - lse) into inf
        sums.append(None if lse is None else torch.where(lse == -torch.inf, torch.inf, lse.float() * LOG2E))
        bars.append(torch.full((size,), -torch.inf, device=a.device) if least is None else least.float())
    return Soft(
        a, b, scale, step_of(scale), a.shape[1], a.stride(0), b.stride(0), sums[0], bars[0], sums[1], bars[1],
        float(teacher.hard),
    )  # fmt: skip


@triton.jit
def teacher_tile(soft, kept, i, j, N, M, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr):
    """[BM, BN] scores of the teacher, -inf where a pair is not kept."""
    t = score_tile(soft.a, soft.b, i, j, N, M, soft.width, soft.a_stride, soft.b_stride, BM, BN, BK, PRECISION)
    return tl.where(kept, t * scale_of(soft.scale, soft.scale_step, j, M), -float("inf"))


@triton.jit
def target_weights(t, lse, bar, positive, hard):
    """Soft targets of a tile of the teacher's scores, given each row's (or column's) sum, base 2, and bar."""
    # written so that NaN passes
    soft = tl.where(t < bar, 0.0, tl.exp2(t * _LOG2E - lse))
    return soft * (1 - hard) + positive.to(tl.float32) * hard


@triton.jit
def _scores_kernel(
    soft, out, R, C, N, M, r0, c0, stride, rules, KINDS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of the super-tile [R, C] at (r0, c0), -inf where a pair is excluded."""
    i = r0 + tl.program_id(0) * BM + tl.arange(0, BM)
    j = c0 + tl.program_id(1) * BN + tl.arange(0, BN)
    _, kept = pair_tile(rules, i, j, N, M, KINDS)
    t = teacher_tile(soft, kept, i, j, N, M, BM, BN, BK, PRECISION)
    at = out + (i - r0).to(tl.int64)[:, None] * stride + (j - c0)[None, :]
    tl.store(at, t, mask=(i < r0 + R)[:, None] & (j < c0 + C)[None, :])


class FusedTeacher(Teacher):
    """As `Teacher`, its scores from a kernel."""

    step = SUPER

    def scores(self, r: slice, c: slice) -> Tensor:
        n, m = self.a.shape[0], self.b.shape[0]
        rows, columns = r.stop - r.start, c.stop - c.start
        soft, sizes, (rules, kinds) = soft_of(self), sizes_for(torch.float32), rules_of(self.pairs, self.a.device)
        out = torch.empty(rows, columns, device=self.a.device)
        _scores_kernel[(triton.cdiv(rows, sizes.BM), triton.cdiv(columns, sizes.BN))](
            soft, out, rows, columns, n, m, r.start, c.start, out.stride(0), rules, KINDS=kinds,
            PRECISION=precision_of(soft.a.dtype), **sizes.meta(),
        )  # fmt: skip
        return out
