"""The softmax core in Triton.

Forward: a static grid of (row groups x column splits); a program walks its tiles once and adds row sums to registers
and column sums to its own slice of a workspace, both from one exponential. Backward, per super-tile of 4096 x 4096:
one kernel recomputes the scores and writes their gradient in the inputs' dtype, one launch of products adds it to both
gradients in float32. Scores too wide for one shift (a flag on the device) are summed again with running maxima.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import opaque
from .fused_tiles import (
    LOG2E,
    Rules,
    Sizes,
    accumulate,
    common,
    pair_tile,
    precision_of,
    programs,
    score_tile,
    sizes_for,
    super_tiles,
)
from .pairs import Pairs
from .tiles import BOUND, Sums, Want

# rows of a statistics workspace
_SUM, _TARGET, _TOTAL, _ALLOWED, _POSITIVES = range(5)
_LOG2E = tl.constexpr(LOG2E)


@triton.jit
def _add(workspace, at, inside, values):
    tl.store(workspace + at, tl.load(workspace + at, mask=inside, other=0.0) + values, mask=inside)


@triton.jit
def _sums_kernel(
    x, y, scale, shift, by_row, by_column, N, M, D, sx, sy, row_stride, column_stride, strips, tiles,
    diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present,
    PER_COLUMN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TOTAL: tl.constexpr,
    PLAIN: tl.constexpr, DIAGONAL: tl.constexpr, IDS: tl.constexpr, X_PRESENT: tl.constexpr, Y_PRESENT: tl.constexpr,
    NO_SELF: tl.constexpr, NO_SAME_ID: tl.constexpr, NO_SAME_VIEW: tl.constexpr, NO_POSITIVES: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of exp2(score - shift) and, under rules, of targets, totals and counts, of a block of strips and tiles.

    by_row is [5, splits, N], by_column [5, groups, M]; a program writes only to its own split and group.
    """
    group, split = tl.program_id(0), tl.program_id(1)
    by_row += split.to(tl.int64) * N
    by_column += group.to(tl.int64) * M
    k2 = tl.load(shift)
    for strip in range(group * strips, tl.minimum((group + 1) * strips, tl.cdiv(N, BM))):
        i = strip * BM + tl.arange(0, BM)
        row_sum = tl.zeros((BM,), dtype=tl.float32)
        row_target = tl.zeros((BM,), dtype=tl.float32)
        row_total = tl.zeros((BM,), dtype=tl.float32)
        row_allowed = tl.zeros((BM,), dtype=tl.float32)
        row_positives = tl.zeros((BM,), dtype=tl.float32)
        for tile in range(split * tiles, tl.minimum((split + 1) * tiles, tl.cdiv(M, BN))):
            j = tile * BN + tl.arange(0, BN)
            z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
            if PER_COLUMN:
                z *= tl.load(scale + j, mask=j < M, other=0.0)[None, :] * _LOG2E
            else:
                z *= tl.load(scale) * _LOG2E
            positive, kept = pair_tile(
                i, j, N, M, diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present, PLAIN, DIAGONAL, IDS,
                X_PRESENT, Y_PRESENT, NO_SELF, NO_SAME_ID, NO_SAME_VIEW, NO_POSITIVES,
            )  # fmt: skip
            e = tl.where(kept, tl.exp2(z - k2), 0.0)
            here = j < M
            if ROWS:
                row_sum += tl.sum(e, 1)
            if COLUMNS:
                _add(by_column, j, here, tl.sum(e, 0))
            if TOTAL:
                listed = tl.where(kept, z, 0.0)
                row_total += tl.sum(listed, 1)
                if COLUMNS:
                    _add(by_column + 2 * column_stride, j, here, tl.sum(listed, 0))
            if not PLAIN:
                target = tl.where(positive, z, 0.0)
                allowed = kept.to(tl.float32)
                hits = positive.to(tl.float32)
                row_target += tl.sum(target, 1)
                row_allowed += tl.sum(allowed, 1)
                row_positives += tl.sum(hits, 1)
                if COLUMNS:
                    _add(by_column + column_stride, j, here, tl.sum(target, 0))
                    _add(by_column + 3 * column_stride, j, here, tl.sum(allowed, 0))
                    _add(by_column + 4 * column_stride, j, here, tl.sum(hits, 0))
            tl.debug_barrier()
        if ROWS:
            inside = i < N
            tl.store(by_row + i, row_sum, mask=inside)
            if TOTAL:
                tl.store(by_row + 2 * row_stride + i, row_total, mask=inside)
            if not PLAIN:
                tl.store(by_row + row_stride + i, row_target, mask=inside)
                tl.store(by_row + 3 * row_stride + i, row_allowed, mask=inside)
                tl.store(by_row + 4 * row_stride + i, row_positives, mask=inside)


@triton.jit
def _running_kernel(
    x, y, scale, needed, lse, N, M, D, sx, sy,
    diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present,
    PER_COLUMN: tl.constexpr, PER_ROW: tl.constexpr,
    PLAIN: tl.constexpr, DIAGONAL: tl.constexpr, IDS: tl.constexpr, X_PRESENT: tl.constexpr, Y_PRESENT: tl.constexpr,
    NO_SELF: tl.constexpr, NO_SAME_ID: tl.constexpr, NO_SAME_VIEW: tl.constexpr, NO_POSITIVES: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Row log-sum-exps (base 2) with running maxima; returns at once where the shifted sums are good."""
    if tl.load(needed) == 0:
        return
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    peak = tl.full((BM,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    for tile in range(tl.cdiv(M, BN)):
        j = tile * BN + tl.arange(0, BN)
        z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
        if PER_COLUMN:
            z *= tl.load(scale + j, mask=j < M, other=0.0)[None, :] * _LOG2E
        elif PER_ROW:
            z *= tl.load(scale + i, mask=i < N, other=0.0)[:, None] * _LOG2E
        else:
            z *= tl.load(scale) * _LOG2E
        _, kept = pair_tile(
            i, j, N, M, diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present, PLAIN, DIAGONAL, IDS,
            X_PRESENT, Y_PRESENT, NO_SELF, NO_SAME_ID, NO_SAME_VIEW, NO_POSITIVES,
        )  # fmt: skip
        z = tl.where(kept, z, -float("inf"))
        highest = tl.maximum(peak, tl.max(z, 1))
        base = tl.where(highest == -float("inf"), 0.0, highest)
        total = total * tl.exp2(peak - base) + tl.sum(tl.exp2(z - base[:, None]), 1)
        peak = highest
    tl.store(lse + i, tl.where(total > 0, peak + tl.log2(total), -float("inf")), mask=i < N)


@triton.jit
def _gradient_kernel(
    x, y, scale, shift, running, level, g, dscale, u, row_lse, row_target, row_total, v, column_lse, column_target,
    column_total, R, C, N, M, D, r0, c0, sx, sy, sg,
    diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present,
    PER_COLUMN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TARGET: tl.constexpr, TOTAL: tl.constexpr,
    DSCALE: tl.constexpr,
    PLAIN: tl.constexpr, DIAGONAL: tl.constexpr, IDS: tl.constexpr, X_PRESENT: tl.constexpr, Y_PRESENT: tl.constexpr,
    NO_SELF: tl.constexpr, NO_SAME_ID: tl.constexpr, NO_SAME_VIEW: tl.constexpr, NO_POSITIVES: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of the scores of a super-tile [R, C] at (r0, c0), times scale_j and `level`, in g's dtype."""
    i = r0 + tl.program_id(0) * BM + tl.arange(0, BM)
    j = c0 + tl.program_id(1) * BN + tl.arange(0, BN)
    in_row = i < r0 + R
    in_column = j < c0 + C
    z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
    if PER_COLUMN:  # noqa: SIM108
        own = tl.load(scale + j, mask=in_column, other=0.0)[None, :]
    else:
        own = tl.load(scale)
    z *= own * _LOG2E
    positive, kept = pair_tile(
        i, j, N, M, diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present, PLAIN, DIAGONAL, IDS,
        X_PRESENT, Y_PRESENT, NO_SELF, NO_SAME_ID, NO_SAME_VIEW, NO_POSITIVES,
    )  # fmt: skip
    grad = tl.zeros((BM, BN), dtype=tl.float32)
    if tl.load(running) == 0:
        factor = tl.zeros((BM, BN), dtype=tl.float32)
        if ROWS:
            factor += tl.load(u + i, mask=in_row, other=0.0)[:, None]
        if COLUMNS:
            factor += tl.load(v + j, mask=in_column, other=0.0)[None, :]
        grad = tl.where(kept, tl.exp2(z - tl.load(shift)) * factor, 0.0)
    else:
        if ROWS:
            p = tl.exp2(z - tl.load(row_lse + i, mask=in_row, other=0.0)[:, None])
            grad += tl.where(kept, p * tl.load(u + i, mask=in_row, other=0.0)[:, None], 0.0)
        if COLUMNS:
            q = tl.exp2(z - tl.load(column_lse + j, mask=in_column, other=0.0)[None, :])
            grad += tl.where(kept, q * tl.load(v + j, mask=in_column, other=0.0)[None, :], 0.0)
    if TARGET:
        hits = positive.to(tl.float32)
        if ROWS:
            grad += hits * tl.load(row_target + i, mask=in_row, other=0.0)[:, None]
        if COLUMNS:
            grad += hits * tl.load(column_target + j, mask=in_column, other=0.0)[None, :]
    if TOTAL:
        listed = kept.to(tl.float32)
        if ROWS:
            grad += listed * tl.load(row_total + i, mask=in_row, other=0.0)[:, None]
        if COLUMNS:
            grad += listed * tl.load(column_total + j, mask=in_column, other=0.0)[None, :]
    if DSCALE:
        part = tl.sum(grad * z, 0) / _LOG2E
        tl.store(dscale + tl.program_id(0).to(tl.int64) * M + j, part, mask=in_column)
    out = g + (i - r0)[:, None] * sg + (j - c0)[None, :]
    value = grad * own * tl.load(level)
    tl.store(out, value.to(g.dtype.element_ty), mask=in_row[:, None] & in_column[None, :])


@opaque
def softmax_sums(
    x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, teacher: None = None
) -> tuple[Sums | None, Sums | None]:
    """As `chunked.softmax_sums`, without soft targets, pair weights and sums inside the logarithm."""
    flat = _Softmax.apply(x, y, scale, pairs, want)
    sides = [Sums(*flat[6 * k : 6 * k + 6]) if wanted else None for k, wanted in enumerate((want.rows, want.columns))]
    return sides[0], sides[1]


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want):
        (xs, ys), scale = common(x.detach(), y.detach()), scale.detach().float().contiguous()
        sizes, rules = sizes_for(xs.dtype), Rules(pairs, xs)
        bound = _largest_score(xs, ys, scale)
        shift = (bound - 70).clamp(0, BOUND - 70)
        statistics = _statistics(xs, ys, scale, shift * LOG2E, rules, want, sizes)
        n, m = x.shape[0], y.shape[0]
        running = bound > BOUND
        sides = []
        for side, other, size in ((0, m, n), (1, n, m)):
            part = statistics[side]
            if part is None:
                sides.append(None)
                continue
            target, total, allowed, positives = part[_TARGET], part[_TOTAL], part[_ALLOWED], part[_POSITIVES]
            if pairs.plain:
                allowed = torch.full_like(part[_SUM], other)
                target, positives = _on_diagonal(xs, ys, scale, pairs, side, size)
            else:
                target = target / LOG2E
            running = running | ((part[_SUM] < 1e-31 * other) & (allowed > 0)).any()
            sides.append([part[_SUM], target, total / LOG2E, allowed, positives])
        flag = running.to(torch.int32).reshape(1)
        flat, kept = [], []
        for side, values in enumerate(sides):
            if values is None:
                flat += [None] * 6
                kept += [None, None]
                continue
            total, target, totals, allowed, positives = values
            again = _running(xs, ys, scale, flag, pairs, side, sizes)
            lse = torch.where(running, again / LOG2E, total.log() + shift)
            flat += [lse, target if want.target else None, totals if want.total else None, None, allowed, positives]
            kept += [total, again]
        ctx.save_for_backward(xs, ys, scale, shift * LOG2E, flag, *kept)
        ctx.pairs, ctx.want, ctx.dtypes = pairs, want, (x.dtype, y.dtype)
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        ctx.set_materialize_grads(False)
        return tuple(flat)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, shift2, flag, *kept = ctx.saved_tensors
        n, m, device = x.shape[0], y.shape[0], x.device
        sizes, rules = sizes_for(x.dtype), Rules(ctx.pairs, x)
        needs = ctx.needs_input_grad
        sides = []
        for k in (0, 1):
            arriving, (total, lse2) = grads[6 * k : 6 * k + 3], kept[2 * k : 2 * k + 2]
            if total is None or all(g is None for g in arriving):
                sides.append(None)
                continue
            g_lse, g_target, g_total = (torch.zeros_like(total) if g is None else g.float() for g in arriving)
            over = torch.where(total == 0, 0.0, g_lse / total)
            # an empty row's log-sum-exp is -inf, which would turn exp2(z - lse) into inf
            sides.append((
                torch.where(flag > 0, g_lse, over), torch.where(lse2 == -torch.inf, torch.inf, lse2), g_target, g_total,
            ))  # fmt: skip
        if not any(sides):
            return (None,) * 5
        filler = torch.zeros(1, device=device)
        vectors = [v.contiguous() for side in sides for v in (side or (filler,) * 4)]
        # half precision: the largest gradient is brought to 1, so that none is lost below its smallest number
        largest = torch.stack(
            [g.abs().amax() for k in (0, 1) for g in grads[6 * k : 6 * k + 3] if g is not None]
        ).amax()
        level = torch.where(largest > 0, 1 / (largest * scale.abs().amax()), torch.ones_like(largest)).float()
        dx = torch.zeros(x.shape, dtype=torch.float32, device=device) if needs[0] else None
        dy = torch.zeros(y.shape, dtype=torch.float32, device=device) if needs[1] else None
        dscale = torch.zeros(m, dtype=torch.float32, device=device) if needs[2] else None
        block = (min(n, sizes.super_tile), min(m, sizes.super_tile))
        g = torch.empty(block, dtype=x.dtype, device=device)
        parts = torch.zeros(triton.cdiv(block[0], sizes.BM), m, device=device) if needs[2] else filler
        for r, c in super_tiles(n, m, sizes):
            rows, columns = r.stop - r.start, c.stop - c.start
            _gradient_kernel[(triton.cdiv(rows, sizes.BM), triton.cdiv(columns, sizes.BN))](
                x, y, scale, shift2, flag, level, g, parts, *vectors, rows, columns, n, m, x.shape[1], r.start, c.start,
                x.stride(0), y.stride(0), g.stride(0), rules.diagonal, *rules.pointers, PER_COLUMN=scale.dim() > 0,
                ROWS=sides[0] is not None, COLUMNS=sides[1] is not None, TARGET=ctx.want.target, TOTAL=ctx.want.total,
                DSCALE=dscale is not None, PRECISION=precision_of(x.dtype), **rules.switches, **sizes.meta(),
            )  # fmt: skip
            if dscale is not None:
                dscale[c] += parts[: triton.cdiv(rows, sizes.BM), c].sum(0)
            accumulate(
                g, x[r], y[c], None if dx is None else dx[r], None if dy is None else dy[c], rows, columns, sizes
            )
        if dscale is not None:
            dscale = dscale / scale if scale.dim() else dscale.sum() / scale
        return (
            None if dx is None else (dx / level).to(ctx.dtypes[0]),
            None if dy is None else (dy / level).to(ctx.dtypes[1]),
            dscale,
            None,
            None,
        )


def _statistics(
    x: Tensor, y: Tensor, scale: Tensor, shift2: Tensor, rules: Rules, want: Want, sizes: Sizes
) -> list[Tensor | None]:
    """[5, N] and [5, M]: sums over rows and over columns, from one pass."""
    n, m, device = x.shape[0], y.shape[0], x.device
    row_tiles, column_tiles = triton.cdiv(n, sizes.BM), triton.cdiv(m, sizes.BN)
    strips = triton.cdiv(row_tiles, programs(device))
    groups = triton.cdiv(row_tiles, strips)
    tiles = triton.cdiv(column_tiles, max(1, programs(device) // groups))
    splits = triton.cdiv(column_tiles, tiles)
    by_row = torch.zeros(5, splits, n, device=device)
    by_column = torch.zeros(5, groups, m, device=device)
    _sums_kernel[(groups, splits)](
        x, y, scale, shift2, by_row, by_column, n, m, x.shape[1], x.stride(0), y.stride(0), by_row.stride(0),
        by_column.stride(0), strips, tiles, rules.diagonal, *rules.pointers, PER_COLUMN=scale.dim() > 0,
        ROWS=want.rows, COLUMNS=want.columns, TOTAL=want.total, PRECISION=precision_of(x.dtype), **rules.switches,
        **sizes.meta(),
    )  # fmt: skip
    return [by_row.sum(1) if want.rows else None, by_column.sum(1) if want.columns else None]


def _running(x: Tensor, y: Tensor, scale: Tensor, flag: Tensor, pairs: Pairs, side: int, sizes: Sizes) -> Tensor:
    """Base-2 log-sum-exps of rows (side 0) or columns (1) where `flag` is set; else 0 at the cost of a launch."""
    if side:
        x, y, pairs = y, x, pairs.transposed()
    rules = Rules(pairs, x)
    n, m = x.shape[0], y.shape[0]
    lse = torch.zeros(n, device=x.device)
    _running_kernel[(triton.cdiv(n, sizes.BM),)](
        x, y, scale, flag, lse, n, m, x.shape[1], x.stride(0), y.stride(0), rules.diagonal, *rules.pointers,
        PER_COLUMN=scale.dim() > 0 and side == 0, PER_ROW=scale.dim() > 0 and side == 1,
        PRECISION=precision_of(x.dtype), **rules.switches, **sizes.meta(),
    )  # fmt: skip
    return lse


def _on_diagonal(x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, side: int, size: int) -> tuple[Tensor, Tensor]:
    """Scores of the positives, placed at their rows (side 0) or columns, and how many each has."""
    (row, column), length = pairs.diagonal_of(slice(0, pairs.rows), slice(0, pairs.columns))
    own = scale[column : column + length] if scale.dim() else scale
    scores = (x[row : row + length].float() * y[column : column + length].float()).sum(1) * own
    at = slice(row, row + length) if side == 0 else slice(column, column + length)
    target, positives = torch.zeros(size, device=x.device), torch.zeros(size, device=x.device)
    target[at], positives[at] = scores, 1.0
    return target, positives


def _largest_score(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(y, dim=1, dtype=torch.float32) * scale.abs()
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).amax() * norms.amax()
