"""Sums over the rows and the columns of a score matrix in Triton, both from one exponential.

A static grid of (row groups x column splits): a program walks its tiles once and adds row sums to registers and column
sums to its own slice of a workspace. Scores too wide for one shift are summed again with running maxima.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..pairs import Pairs
from ..sums import Want
from ..targets.fused import Soft, target_weights, teacher_tile
from ..tiles.fused import (
    LOG2E,
    Sizes,
    pair_tile,
    precision_of,
    programs,
    rules_of,
    scale_of,
    score_tile,
    step_of,
    weight_tile,
)

# rows of a statistics workspace, of which the first ones needed are made
SUM, TOTAL, TARGET, ALLOWED, POSITIVES, INSIDE = range(6)
_TOTAL, _TARGET, _ALLOWED, _POSITIVES, _INSIDE = (tl.constexpr(k) for k in range(1, 6))
_LOG2E = tl.constexpr(LOG2E)


@triton.jit
def _add(workspace, at, inside, values):
    tl.store(workspace + at, tl.load(workspace + at, mask=inside, other=0.0) + values, mask=inside)


@triton.jit
def _sums_kernel(
    x, y, scale, scale_step, shift, by_row, by_column, N, M, D, sx, sy, row_stride, column_stride, strips, tiles,
    rules, soft, KINDS: tl.constexpr, WANT: tl.constexpr, SOFT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, SOFT_PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of exp2(score - shift) and of what else is wanted, of a block of strips and tiles.

    by_row is [quantities, splits, N], by_column [quantities, groups, M]; a program writes only to its own split and
    group.
    """
    group, split = tl.program_id(0), tl.program_id(1)
    by_row += split.to(tl.int64) * N
    by_column += group.to(tl.int64) * M
    k2 = tl.load(shift)
    for strip in range(group * strips, tl.minimum((group + 1) * strips, tl.cdiv(N, BM))):
        i = strip * BM + tl.arange(0, BM)
        row_sum = tl.zeros((BM,), dtype=tl.float32)
        row_total = tl.zeros((BM,), dtype=tl.float32)
        row_target = tl.zeros((BM,), dtype=tl.float32)
        row_allowed = tl.zeros((BM,), dtype=tl.float32)
        row_positives = tl.zeros((BM,), dtype=tl.float32)
        row_inside = tl.zeros((BM,), dtype=tl.float32)
        for tile in range(split * tiles, tl.minimum((split + 1) * tiles, tl.cdiv(M, BN))):
            j = tile * BN + tl.arange(0, BN)
            here = j < M
            z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
            z *= scale_of(scale, scale_step, j, M) * _LOG2E
            positive, kept = pair_tile(rules, i, j, N, M, KINDS)
            raw = tl.exp2(z - k2)
            e = tl.where(kept, raw, 0.0)
            if WANT.apart:
                e = tl.where(positive, 0.0, e)
            if rules.weights is not None:
                e *= weight_tile(rules, i, j, N, M)
            if WANT.rows:
                row_sum += tl.sum(e, 1)
            if WANT.columns:
                _add(by_column, j, here, tl.sum(e, 0))
            if WANT.total:
                listed = tl.where(kept, z, 0.0)
                row_total += tl.sum(listed, 1)
                if WANT.columns:
                    _add(by_column + _TOTAL * column_stride, j, here, tl.sum(listed, 0))
            if WANT.inside:
                inner = tl.where(positive, raw, 0.0)
                row_inside += tl.sum(inner, 1)
                if WANT.columns:
                    _add(by_column + _INSIDE * column_stride, j, here, tl.sum(inner, 0))
            if SOFT:
                t = teacher_tile(soft, kept, i, j, N, M, BM, BN, BK, SOFT_PRECISION)
                if WANT.rows:
                    lse = tl.load(soft.row_lse + i, mask=i < N, other=0.0)[:, None]
                    bar = tl.load(soft.row_bar + i, mask=i < N, other=0.0)[:, None]
                    row_target += tl.sum(target_weights(t, lse, bar, positive, soft.hard) * z, 1)
                if WANT.columns:
                    lse = tl.load(soft.column_lse + j, mask=here, other=0.0)[None, :]
                    bar = tl.load(soft.column_bar + j, mask=here, other=0.0)[None, :]
                    target = target_weights(t, lse, bar, positive, soft.hard) * z
                    _add(by_column + _TARGET * column_stride, j, here, tl.sum(target, 0))
            elif not KINDS.plain:
                target = tl.where(positive, z, 0.0)
                row_target += tl.sum(target, 1)
                if WANT.columns:
                    _add(by_column + _TARGET * column_stride, j, here, tl.sum(target, 0))
            if not KINDS.plain:
                allowed = kept.to(tl.float32)
                hits = positive.to(tl.float32)
                row_allowed += tl.sum(allowed, 1)
                row_positives += tl.sum(hits, 1)
                if WANT.columns:
                    _add(by_column + _ALLOWED * column_stride, j, here, tl.sum(allowed, 0))
                    _add(by_column + _POSITIVES * column_stride, j, here, tl.sum(hits, 0))
            tl.debug_barrier()
        if WANT.rows:
            inside = i < N
            tl.store(by_row + i, row_sum, mask=inside)
            if WANT.total:
                tl.store(by_row + _TOTAL * row_stride + i, row_total, mask=inside)
            if SOFT or not KINDS.plain:
                tl.store(by_row + _TARGET * row_stride + i, row_target, mask=inside)
            if not KINDS.plain:
                tl.store(by_row + _ALLOWED * row_stride + i, row_allowed, mask=inside)
                tl.store(by_row + _POSITIVES * row_stride + i, row_positives, mask=inside)
            if WANT.inside:
                tl.store(by_row + _INSIDE * row_stride + i, row_inside, mask=inside)


@triton.jit
def _running_kernel(
    x, y, scale, scale_step, needed, peaks, totals, N, M, D, sx, sy, rules,
    KINDS: tl.constexpr, WANT: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr, INSIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Running maxima (base 2) and sums of rows or of COLUMNS, over all pairs or over positives (INSIDE).

    Returns at once where the shifted sums are good. A column's tiles are multiplied as a row's are, so that the
    gradient meets the bits that were summed.
    """
    if tl.load(needed) == 0:
        return
    i = tl.arange(0, BM)
    j = tl.arange(0, BN)
    own, size, tiles = i, N, tl.cdiv(M, BN)
    if COLUMNS:
        j += tl.program_id(0) * BN
        own, size, tiles = j, M, tl.cdiv(N, BM)
    else:
        i += tl.program_id(0) * BM
        own = i
    peak = tl.zeros_like(own).to(tl.float32) - float("inf")
    total = tl.zeros_like(own).to(tl.float32)
    for _ in range(tiles):
        z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
        z *= scale_of(scale, scale_step, j, M) * _LOG2E
        positive, kept = pair_tile(rules, i, j, N, M, KINDS)
        if INSIDE:
            z = tl.where(positive, z, -float("inf"))
        else:
            if rules.weights is not None:
                z += tl.log2(weight_tile(rules, i, j, N, M))
            if WANT.apart:
                kept = kept & (positive == 0)
            z = tl.where(kept, z, -float("inf"))
        highest = tl.maximum(peak, tl.max(z, AXIS))
        base = tl.where(highest == -float("inf"), 0.0, highest)
        total = total * tl.exp2(peak - base) + tl.sum(tl.exp2(z - tl.expand_dims(base, AXIS)), AXIS)
        peak = highest
        if COLUMNS:
            i += BM
        else:
            j += BN
    tl.store(peaks + own, peak, mask=own < size)
    tl.store(totals + own, total, mask=own < size)


def statistics(
    x: Tensor, y: Tensor, scale: Tensor, shift2: Tensor, pairs: Pairs, want: Want, soft: Soft | None, sizes: Sizes
) -> list[Tensor | None]:
    """[quantities, N] and [quantities, M]: sums over rows and over columns, from one pass, scores in base 2.

    Quantities are numbered as above; the last ones are absent where the rules are plain.
    """
    n, m, device = x.shape[0], y.shape[0], x.device
    rules, kinds = rules_of(pairs, device)
    last = TARGET if soft is not None else TOTAL if want.total else SUM
    if not pairs.plain:
        last = INSIDE if want.inside else POSITIVES
    row_tiles, column_tiles = triton.cdiv(n, sizes.BM), triton.cdiv(m, sizes.BN)
    strips = triton.cdiv(row_tiles, programs(device))
    groups = triton.cdiv(row_tiles, strips)
    tiles = triton.cdiv(column_tiles, max(1, programs(device) // groups))
    splits = triton.cdiv(column_tiles, tiles)
    by_row = torch.zeros(last + 1, splits, n, device=device)
    by_column = torch.zeros(last + 1, groups, m, device=device)
    _sums_kernel[(groups, splits)](
        x, y, scale, step_of(scale), shift2, by_row, by_column, n, m, x.shape[1], x.stride(0), y.stride(0),
        by_row.stride(0), by_column.stride(0), strips, tiles, rules, soft, KINDS=kinds, WANT=want,
        SOFT=soft is not None, PRECISION=precision_of(x.dtype),
        SOFT_PRECISION=precision_of(x.dtype if soft is None else soft.a.dtype), **sizes.meta(),
    )  # fmt: skip
    return [by_row.sum(1) if want.rows else None, by_column.sum(1) if want.columns else None]


def running(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    needed: Tensor,
    pairs: Pairs,
    want: Want,
    side: int,
    sizes: Sizes,
    inside: bool = False,
) -> Tensor:
    """Base-2 log-sum-exps of rows (side 0) or columns (1), float64, where `needed` is set; else for a launch's cost."""
    rules, kinds = rules_of(pairs, x.device)
    n, m = x.shape[0], y.shape[0]
    peaks, totals = torch.zeros(2, m if side else n, device=x.device)
    grid = (triton.cdiv(m, sizes.BN) if side else triton.cdiv(n, sizes.BM),)
    _running_kernel[grid](
        x, y, scale, step_of(scale), needed, peaks, totals, n, m, x.shape[1], x.stride(0),
        y.stride(0), rules, KINDS=kinds, WANT=want, COLUMNS=side == 1, AXIS=1 - side, INSIDE=inside,
        PRECISION=precision_of(x.dtype), **sizes.meta(),
    )  # fmt: skip
    # written so that NaN passes
    return torch.where(totals == 0, -torch.inf, peaks.double() + totals.double().log2())
