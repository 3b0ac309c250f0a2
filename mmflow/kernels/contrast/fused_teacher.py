"""Soft targets in Triton: the teacher's scores by super-tiles, so that bars and sums see the bits that kernels see."""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from .fused import softmax_sums
from .fused_tiles import SUPER, pair_tile, precision_of, rules_of, sizes_for, soft_of, teacher_tile
from .teacher import Teacher
from .tiles import Stream


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
    """As `Teacher`, its scores from a kernel; without bars the sums come from one pass of the softmax core."""

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

    def add_sums(self, streams: tuple[Stream | None, Stream | None]) -> None:
        if any(least is not None for least in self.least):
            return super().add_sums(streams)
        want = next(stream.want for stream in streams if stream is not None)
        pairs = replace(self.pairs, positives="none")
        for stream, sums in zip(streams, softmax_sums(self.a, self.b, self.scale, pairs, want), strict=True):
            if stream is not None and sums is not None:
                stream.add_sums(sums)
        return None
