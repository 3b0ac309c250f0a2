"""The sigmoid core in Triton: per super-tile one kernel for losses and score gradients, one launch of products.

As in `chunked`, the gradient is computed with the loss where rows are weighted by constants.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..pairs import Pairs
from ..tiles.fused import (
    accumulate,
    common,
    pair_tile,
    precision_of,
    rules_of,
    scale_of,
    score_tile,
    sizes_for,
    step_of,
    super_tiles,
    weight_tile,
)
from . import chunked


@triton.jit
def _sigmoid_kernel(
    x, y, scale, scale_step, bias, weights, level, g, values, dscale, dbias, R, C, N, M, D, r0, c0, sx, sy, sg, rules,
    KINDS: tl.constexpr, VALUES: tl.constexpr, GRADIENT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Losses and score gradients of a super-tile [R, C] at (r0, c0).

    values is [column tiles, N], dscale and dbias [row tiles, M]: a program writes only to its own row of them.
    """
    i = r0 + tl.program_id(0) * BM + tl.arange(0, BM)
    j = c0 + tl.program_id(1) * BN + tl.arange(0, BN)
    in_row = i < r0 + R
    in_column = j < c0 + C
    z = score_tile(x, y, i, j, N, M, D, sx, sy, BM, BN, BK, PRECISION)
    own = scale_of(scale, scale_step, j, M)
    z *= own
    positive, kept = pair_tile(rules, i, j, N, M, KINDS)
    kept = kept & in_row[:, None] & in_column[None, :]
    signed = z + tl.load(bias)
    signed = tl.where(positive, -signed, signed)
    t = tl.exp(-tl.abs(signed))
    if VALUES:
        # below 0.03 a series, to full precision where 1 + t rounds t away
        series = t * (1 - t * (1 / 2 - t * (1 / 3 - t * (1 / 4 - t / 5))))
        log1p = tl.where(t < 0.03, series, tl.log(1 + t))
        losses = tl.where(kept, tl.maximum(signed, 0.0) + log1p, 0.0)
        if rules.weights is not None:
            losses *= weight_tile(rules, i, j, N, M)
        tl.store(values + tl.program_id(1).to(tl.int64) * N + i, tl.sum(losses, 1), mask=in_row)
    if GRADIENT:
        sigmoid = tl.where(signed >= 0, 1.0, t) / (1.0 + t)
        grad = (
            tl.where(kept, tl.where(positive, -sigmoid, sigmoid), 0.0)
            * tl.load(weights + i, mask=in_row, other=0.0)[:, None]
        )
        if rules.weights is not None:
            grad *= weight_tile(rules, i, j, N, M)
        row = tl.program_id(0).to(tl.int64) * M
        tl.store(dscale + row + j, tl.sum(grad * z, 0), mask=in_column)
        tl.store(dbias + row + j, tl.sum(grad, 0), mask=in_column)
        out = g + (i - r0)[:, None] * sg + (j - c0)[None, :]
        value = grad * own * tl.load(level)
        tl.store(out, value.to(g.dtype.element_ty), mask=in_row[:, None] & in_column[None, :])


def sigmoid_rows(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, weights: Tensor, pairs: Pairs, summed: bool
) -> Tensor:
    """As `chunked.sigmoid_rows`; pair weights are a tensor."""
    return chunked.sigmoid_rows(x, y, scale, bias, weights, pairs, summed, sigmoid_sweep)


def sigmoid_sweep(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Tensor | None,
    pairs: Pairs,
    needs: tuple[bool, ...],
    with_values: bool,
) -> tuple[Tensor | None, ...]:
    """As `chunked.sigmoid_sweep`."""
    dtypes = x.dtype, y.dtype
    (x, y), scale = common(x, y), scale.float().contiguous()
    sizes, device = sizes_for(x.dtype), x.device
    rules, kinds = rules_of(pairs, device)
    n, m = x.shape[0], y.shape[0]
    block = (min(n, sizes.super_tile), min(m, sizes.super_tile))
    row_tiles, column_tiles = triton.cdiv(block[0], sizes.BM), triton.cdiv(block[1], sizes.BN)
    filler = torch.zeros(1, device=device)
    gradient = any(needs)
    weights = filler if weights is None else weights.float().contiguous()
    largest = weights.abs().amax() * scale.abs().amax()
    if isinstance(pairs.weights, Tensor):
        largest = largest * torch.stack(pairs.weights.aminmax()).float().abs().amax()
    # half precision: the largest gradient is brought to 1, so that none is lost below its smallest number
    level = torch.where(largest > 0, 1 / largest, torch.ones_like(largest)) if gradient else filler
    values = torch.zeros(n, device=device) if with_values else None
    dx = torch.zeros(x.shape, dtype=torch.float32, device=device) if needs[0] else None
    dy = torch.zeros(y.shape, dtype=torch.float32, device=device) if needs[1] else None
    dscale, dbias = torch.zeros(m, device=device), torch.zeros((), device=device)
    g = torch.empty(block, dtype=x.dtype, device=device) if gradient else filler
    value_parts = torch.zeros(column_tiles, n, device=device) if with_values else filler
    scale_parts = torch.zeros(row_tiles, m, device=device) if gradient else filler
    bias_parts = torch.zeros(row_tiles, m, device=device) if gradient else filler
    for r, c in super_tiles(n, m, sizes):
        rows, columns = r.stop - r.start, c.stop - c.start
        grid = (triton.cdiv(rows, sizes.BM), triton.cdiv(columns, sizes.BN))
        _sigmoid_kernel[grid](
            x, y, scale, step_of(scale), bias, weights, level, g, value_parts, scale_parts, bias_parts, rows, columns,
            n, m, x.shape[1], r.start, c.start, x.stride(0), y.stride(0), g.stride(0), rules, KINDS=kinds,
            VALUES=with_values, GRADIENT=gradient, PRECISION=precision_of(x.dtype), **sizes.meta(),
        )  # fmt: skip
        if values is not None:
            values[r] += value_parts[: grid[1], r].sum(0)
        if gradient:
            dscale[c] += scale_parts[: grid[0], c].sum(0)
            dbias += bias_parts[: grid[0], c].sum()
            accumulate(
                g, x[r], y[c], None if dx is None else dx[r], None if dy is None else dy[c], rows, columns, sizes
            )
    return (
        values,
        None if dx is None else dx.div_(level).to(dtypes[0]),
        None if dy is None else dy.div_(level).to(dtypes[1]),
        (dscale / scale if scale.dim() else dscale.sum() / scale) if needs[2] else None,
        dbias.to(bias.dtype) if needs[3] else None,
    )
