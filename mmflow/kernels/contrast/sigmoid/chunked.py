"""The sigmoid core over dot products in streaming PyTorch.

Pairs are independent, so that one pass over the tiles gives the loss and, where rows are weighted by constants, the
gradient too; only the loss per row needs a second pass once its gradient is known.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ...dispatch import opaque
from ...products import add_times, times_transposed
from ..pairs import Pairs
from ..tiles.chunked import TILE, Buffers, compute_dtype, diagonal, largest_score, spans, unit_for

Sweep = Callable[..., tuple[Tensor | None, ...]]


@opaque
def sigmoid_rows(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Tensor,
    pairs: Pairs,
    summed: bool,
    sweep: Sweep | None = None,
) -> Tensor:
    """weights_i * sum_j w_ij softplus(-z_ij (<x_i, y_j> * scale_j + bias)), per row or summed over rows.

    Args:
        x: [N, D]. y: [M, D]. scale: [] or [M]. bias: []. weights: [N].
        sweep: another form of `sigmoid_sweep`.
    """
    sweep = sweep or sigmoid_sweep
    if summed and not weights.requires_grad:
        return _Summed.apply(x, y, scale, bias, weights, pairs, sweep)
    rows = _Rows.apply(x, y, scale, bias, pairs, sweep) * weights
    return rows.sum() if summed else rows


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, weights: Tensor, pairs: Pairs, sweep: Sweep):
        needs = ctx.needs_input_grad[:4]
        values, *gradients = sweep(x.detach(), y.detach(), scale.detach(), bias.detach(), weights, pairs, needs, True)
        ctx.save_for_backward(*gradients)
        assert values is not None
        return (values * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(None if g is None else g * grad.to(g.dtype) for g in ctx.saved_tensors), None, None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs, sweep: Sweep):
        x, y, scale, bias = x.detach(), y.detach(), scale.detach(), bias.detach()
        ctx.pairs, ctx.sweep = pairs, sweep
        ctx.save_for_backward(x, y, scale, bias)
        return sweep(x, y, scale, bias, None, pairs, (False,) * 4, True)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, bias = ctx.saved_tensors
        return *ctx.sweep(x, y, scale, bias, grad, ctx.pairs, ctx.needs_input_grad[:4], False)[1:], None, None


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
    """(values per row, dx, dy, dscale, dbias), what is not needed None."""
    dtype, device = compute_dtype(x, y, scale), x.device
    n, m = x.shape[0], y.shape[0]
    values = torch.zeros(n, dtype=dtype, device=device) if with_values else None
    dx = torch.zeros(x.shape, dtype=dtype, device=device) if needs[0] else None
    dy = torch.empty(y.shape, dtype=dtype, device=device) if needs[1] else None
    precise = torch.float64 if device.type != "mps" else dtype
    dscale = torch.zeros(m, dtype=precise, device=device) if needs[2] else None
    dbias = torch.zeros((), dtype=precise, device=device) if needs[3] else None
    buffers = Buffers(dtype, device, n, m)
    small = _products_fit(x, y, scale, bias, pairs)
    unit = unit_for(0.0)
    for c in spans(m, TILE):
        own_scale = (scale if scale.dim() == 0 else scale[c]).to(dtype) * unit
        yc = y[c].to(dtype) * (own_scale[:, None] if scale.dim() else own_scale)
        dyc = torch.zeros(yc.T.shape, dtype=dtype, device=device) if dy is not None else None
        for r in spans(n, TILE):
            shape = (r.stop - r.start, c.stop - c.start)
            xr = x[r].to(dtype)
            scores = times_transposed(xr, yc, out=buffers.get("scores", *shape))
            signed = torch.add(scores, bias * unit, out=buffers.get("signed", *shape))
            positive, excluded = (None, None) if pairs.plain else pairs.block(r, c, device)
            sign = None if positive is None else 1 - 2 * positive.to(dtype)
            _flip(signed, pairs, sign, r, c)
            weight = pairs.weight(r, c)
            if excluded is not None:
                signed.masked_fill_(excluded, -torch.inf)
            if small and weight is None:
                e = signed.exp2_()
                if values is not None:
                    values[r] += _log1p_sums(e, buffers)
                g = e.div_(torch.add(e, 1, out=buffers.get("fold", *shape))) if any(needs) else e
            else:
                if values is not None:
                    losses = -F.logsigmoid(signed / -unit)
                    values[r] += (losses if weight is None else losses * weight).sum(1)
                g = signed.div_(unit).sigmoid_() if any(needs) else signed
                if weight is not None:
                    g.mul_(weight)
            if not any(needs):
                continue
            assert weights is not None
            g.mul_(weights[r, None] / unit)
            _flip(g, pairs, sign, r, c)
            if dbias is not None:
                dbias += g.sum(dtype=dtype) * unit
            if dscale is not None:
                dscale[c] += torch.mul(g, scores, out=scores).sum(0)
            if dx is not None:
                add_times(dx[r], g, yc, coarse=True)
            if dyc is not None:
                add_times(dyc, xr.T, g, coarse=True)
        if dy is not None and dyc is not None:
            torch.mul(dyc.T, own_scale[:, None] if scale.dim() else own_scale, out=dy[c])
    if dscale is not None:
        dscale = (dscale / scale if scale.dim() else dscale.sum() / scale).to(scale.dtype)
    return (
        values,
        None if dx is None else dx.to(x.dtype),
        None if dy is None else dy.to(y.dtype),
        dscale,
        None if dbias is None else dbias.to(bias.dtype),
    )


def _flip(tile: Tensor, pairs: Pairs, sign: Tensor | None, r: slice, c: slice) -> None:
    """Turns the sign of the positives in a tile."""
    if sign is not None:
        tile.mul_(sign)
    elif pairs.plain:
        first, length = pairs.diagonal_of(r, c)
        if length:
            diagonal(tile, first, length).neg_()


def _products_fit(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs) -> bool:
    """Whether the product of eight factors 1 + exp(+-score) of a row stays a number of the dtype."""
    bound, offset = largest_score(x, y, scale), float(bias)
    negative, positive = max(0.0, bound + offset), max(0.0, bound - offset)
    largest = 7 * negative + max(positive, negative) if pairs.positives != "ids" else 8 * max(negative, positive)
    return largest + 8 * math.log(2) < 80


def _log1p_sums(e: Tensor, buffers: Buffers) -> Tensor:
    """Row sums of log(1 + e), e >= 0, with one logarithm for eight elements: (1 + a)(1 + b) = 1 + (a + b + ab)."""
    for step in range(3):
        half, odd = divmod(e.shape[1], 2)
        if odd or not half:
            break
        a, b = e[:, :half], e[:, half:]
        more = torch.add(a, 1, out=buffers.get(f"fold{step}", e.shape[0], half))
        e = torch.addcmul(a, b, more, out=more)
    return torch.log1p(e).sum(1)
