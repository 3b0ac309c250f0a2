"""The gradient of the softmax core in Triton, by super-tiles of 4096 x 4096.

One kernel recomputes the scores and writes their gradient in the inputs' dtype, positives and soft targets subtracted
in float32 before; one launch of products adds it to both gradients in float32.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

from typing import NamedTuple

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
    accumulate,
    pair_tile,
    precision_of,
    rules_of,
    scale_of,
    score_tile,
    step_of,
    super_tiles,
    weight_tile,
)

_LOG2E = tl.constexpr(LOG2E)


class Side(NamedTuple):
    """One direction's part in the gradient, as one argument of the kernel: vectors over its rows (or columns).

    Attributes:
        factor: what arrives for the log-sum-exp; divided by the shifted sum where one shift serves.
        lse: the log-sum-exp (base 2) where running maxima were used, +inf where there is none.
        target, total: what arrives for the target and for the sum of scores.
        inside_factor, inside_lse: `factor` and `lse` of the sum over positives, None where it is not wanted.
    """

    factor: Tensor
    lse: Tensor
    target: Tensor
    total: Tensor
    inside_factor: Tensor | None
    inside_lse: Tensor | None


@triton.jit
def _row(vector, i, inside):
    return tl.load(vector + i, mask=inside, other=0.0)[:, None]


@triton.jit
def _column(vector, j, inside):
    return tl.load(vector + j, mask=inside, other=0.0)[None, :]


@triton.jit
def _gradient_kernel(
    x, y, scale, scale_step, shift, running, level, g, dscale, of_rows, of_columns, R, C, N, M, D, r0, c0, sx, sy, sg,
    rules, soft, KINDS: tl.constexpr, WANT: tl.constexpr, DSCALE: tl.constexpr,
    OF_ROWS: tl.constexpr, OF_COLUMNS: tl.constexpr, SOFT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, SOFT_PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of the scores of a super-tile [R, C] at (r0, c0), times scale_j and `level`, in g's dtype."""
    i = r0 + tl.program_id(0) * BM + tl.arange(0, BM)
    j = c0 + tl.program_id(1) * BN + tl.arange(0, BN)
    in_row = i < r0 + R
    in_column = j < c0 + C
    z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
    own = scale_of(scale, scale_step, j, M)
    z *= own * _LOG2E
    positive, kept = pair_tile(rules, i, j, N, M, KINDS)
    summed = kept
    if WANT.apart:
        summed = kept & (positive == 0)
    grad = tl.zeros((BM, BN), dtype=tl.float32)
    inner = tl.zeros((BM, BN), dtype=tl.float32)
    if tl.load(running) == 0:
        e = tl.exp2(z - tl.load(shift))
        if OF_ROWS:
            grad += _row(of_rows.factor, i, in_row)
            if WANT.inside:
                inner += _row(of_rows.inside_factor, i, in_row)
        if OF_COLUMNS:
            grad += _column(of_columns.factor, j, in_column)
            if WANT.inside:
                inner += _column(of_columns.inside_factor, j, in_column)
        grad = tl.where(summed, e * grad, 0.0)
        if rules.weights is not None:
            grad *= weight_tile(rules, i, j, N, M)
        if WANT.inside:
            inner = tl.where(positive, e * inner, 0.0)
    else:
        weighted = z
        if rules.weights is not None:
            # as a part of the score, which a weight of 0 may let exceed the sum
            weighted = z + tl.log2(weight_tile(rules, i, j, N, M))
        if OF_ROWS:
            p = tl.exp2(weighted - _row(of_rows.lse, i, in_row))
            grad += tl.where(summed, p * _row(of_rows.factor, i, in_row), 0.0)
            if WANT.inside:
                p = tl.exp2(z - _row(of_rows.inside_lse, i, in_row))
                inner += tl.where(positive, p * _row(of_rows.inside_factor, i, in_row), 0.0)
        if OF_COLUMNS:
            p = tl.exp2(weighted - _column(of_columns.lse, j, in_column))
            grad += tl.where(summed, p * _column(of_columns.factor, j, in_column), 0.0)
            if WANT.inside:
                p = tl.exp2(z - _column(of_columns.inside_lse, j, in_column))
                inner += tl.where(positive, p * _column(of_columns.inside_factor, j, in_column), 0.0)
    if WANT.inside:
        grad += inner
    if SOFT:
        t = teacher_tile(soft, kept, i, j, N, M, BM, BN, BK, SOFT_PRECISION)
        if OF_ROWS:
            target = target_weights(
                t, _row(soft.row_lse, i, in_row), _row(soft.row_bar, i, in_row), positive, soft.hard
            )  # fmt: skip
            grad += target * _row(of_rows.target, i, in_row)
        if OF_COLUMNS:
            target = target_weights(
                t, _column(soft.column_lse, j, in_column), _column(soft.column_bar, j, in_column), positive, soft.hard
            )
            grad += target * _column(of_columns.target, j, in_column)
    elif WANT.target:
        hits = positive.to(tl.float32)
        if OF_ROWS:
            grad += hits * _row(of_rows.target, i, in_row)
        if OF_COLUMNS:
            grad += hits * _column(of_columns.target, j, in_column)
    if WANT.total:
        listed = kept.to(tl.float32)
        if OF_ROWS:
            grad += listed * _row(of_rows.total, i, in_row)
        if OF_COLUMNS:
            grad += listed * _column(of_columns.total, j, in_column)
    if DSCALE:
        part = tl.sum(grad * z, 0) / _LOG2E
        tl.store(dscale + tl.program_id(0).to(tl.int64) * M + j, part, mask=in_column)
    out = g + (i - r0)[:, None] * sg + (j - c0)[None, :]
    value = grad * own * tl.load(level)
    tl.store(out, value.to(g.dtype.element_ty), mask=in_row[:, None] & in_column[None, :])


def side_of(
    total: Tensor, lse2: Tensor, inside: tuple[Tensor, Tensor] | None, flag: Tensor, grads: tuple[Tensor | None, ...]
) -> Side | None:
    """The side that a direction sends back, or None where nothing arrives.

    Args:
        total, lse2: the shifted sum, and the base-2 log-sum-exp (float64), which is right where `flag` is set.
        inside: the same two of the positives.
        grads: what arrives for lse, target, total and inside.
    """
    if all(g is None for g in grads):
        return None
    g_lse, g_target, g_total, g_inside = (torch.zeros_like(total) if g is None else g for g in grads)

    def base(lse: Tensor) -> Tensor:
        # an empty row's log-sum-exp is -inf, which would turn exp2(z - lse) into inf
        return torch.where(lse == -torch.inf, torch.inf, lse).float()

    def factor(gradient: Tensor, sums: Tensor, lse: Tensor) -> Tensor:
        # the part that the rounding of a base loses comes back here
        lost = torch.where(lse.isinf(), 0.0, base(lse) - lse).exp2()
        return torch.where(flag > 0, gradient * lost, torch.where(sums == 0, 0.0, gradient / sums)).float().contiguous()

    return Side(
        factor(g_lse, total, lse2),
        base(lse2),
        g_target.float().contiguous(),
        g_total.float().contiguous(),
        None if inside is None else factor(g_inside, *inside),
        None if inside is None else base(inside[1]),
    )


def level_of(grads: list[Tensor | None], scale: Tensor) -> Tensor:
    """The factor that brings the largest gradient of a score to 1: half precision then loses none as too small."""
    largest = torch.stack([g.abs().amax() for g in grads if g is not None]).amax() * scale.abs().amax()
    return torch.where(largest > 0, 1 / largest, torch.ones_like(largest)).float()


def gradients(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    shift2: Tensor,
    flag: Tensor,
    level: Tensor,
    pairs: Pairs,
    want: Want,
    soft: Soft | None,
    sides: tuple[Side | None, Side | None],
    needs: tuple[bool, ...],
    sizes: Sizes,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients for x, y and scale (what is needed), in float32."""
    n, m, device = x.shape[0], y.shape[0], x.device
    rules, kinds = rules_of(pairs, device)
    dx = torch.zeros(x.shape, dtype=torch.float32, device=device) if needs[0] else None
    dy = torch.zeros(y.shape, dtype=torch.float32, device=device) if needs[1] else None
    dscale = torch.zeros(m, dtype=torch.float32, device=device) if needs[2] else None
    block = (min(n, sizes.super_tile), min(m, sizes.super_tile))
    g = torch.empty(block, dtype=x.dtype, device=device)
    parts = torch.zeros(triton.cdiv(block[0], sizes.BM), m, device=device) if needs[2] else None
    for r, c in super_tiles(n, m, sizes):
        rows, columns = r.stop - r.start, c.stop - c.start
        _gradient_kernel[(triton.cdiv(rows, sizes.BM), triton.cdiv(columns, sizes.BN))](
            x, y, scale, step_of(scale), shift2, flag, level, g, parts, *sides, rows, columns, n, m, x.shape[1],
            r.start, c.start, x.stride(0), y.stride(0), g.stride(0), rules, soft, KINDS=kinds, WANT=want,
            DSCALE=dscale is not None, OF_ROWS=sides[0] is not None, OF_COLUMNS=sides[1] is not None,
            SOFT=soft is not None, PRECISION=precision_of(x.dtype),
            SOFT_PRECISION=precision_of(x.dtype if soft is None else soft.a.dtype), **sizes.meta(),
        )  # fmt: skip
        if dscale is not None and parts is not None:
            dscale[c] += parts[: triton.cdiv(rows, sizes.BM), c].sum(0)
        accumulate(g, x[r], y[c], None if dx is None else dx[r], None if dy is None else dy[c], rows, columns, sizes)
    if dscale is not None:
        dscale = dscale / scale if scale.dim() else dscale.sum() / scale
    return None if dx is None else dx.div_(level), None if dy is None else dy.div_(level), dscale
