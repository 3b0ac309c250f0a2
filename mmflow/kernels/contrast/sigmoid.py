"""The sigmoid core over dot products in streaming PyTorch.

Pairs are independent, so that one pass over the tiles gives the loss and, where rows are weighted by constants, the
gradient too; only the loss per row needs a second pass once its gradient is known.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .chunked import Buffers, compute_dtype
from .pairs import Pairs
from .tiles import TILE, spans


def sigmoid_rows(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, weights: Tensor, pairs: Pairs, summed: bool
) -> Tensor:
    """weights_i * sum_j w_ij softplus(-z_ij (<x_i, y_j> * scale_j + bias)), per row or summed over rows.

    Args:
        x: [N, D]. y: [M, D]. scale: [] or [M]. bias: []. weights: [N].
    """
    if summed and not weights.requires_grad:
        return _Summed.apply(x, y, scale, bias, weights, pairs)
    rows = _Rows.apply(x, y, scale, bias, pairs) * weights
    return rows.sum() if summed else rows


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, weights: Tensor, pairs: Pairs):
        needs = ctx.needs_input_grad[:4]
        values, *gradients = _sweep(x.detach(), y.detach(), scale.detach(), bias.detach(), weights, pairs, needs, True)
        ctx.save_for_backward(*gradients)
        assert values is not None
        return (values * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(None if g is None else g * grad.to(g.dtype) for g in ctx.saved_tensors), None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs):
        x, y, scale, bias = x.detach(), y.detach(), scale.detach(), bias.detach()
        ctx.pairs = pairs
        ctx.save_for_backward(x, y, scale, bias)
        return _sweep(x, y, scale, bias, None, pairs, (False,) * 4, True)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, bias = ctx.saved_tensors
        return *_sweep(x, y, scale, bias, grad, ctx.pairs, ctx.needs_input_grad[:4], False)[1:], None


def _sweep(
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
    dy = torch.zeros(y.shape, dtype=dtype, device=device) if needs[1] else None
    precise = torch.float64 if device.type != "mps" else dtype
    dscale = torch.zeros(m, dtype=precise, device=device) if needs[2] else None
    dbias = torch.zeros((), dtype=precise, device=device) if needs[3] else None
    buffers = Buffers(dtype, device, n, m)
    shifted = bool((bias != 0).any())
    for c in spans(m, TILE):
        own_scale = (scale if scale.dim() == 0 else scale[c, None]).to(dtype)
        yc = y[c].to(dtype) * own_scale
        dyc = torch.zeros_like(yc) if dy is not None else None
        for r in spans(n, TILE):
            shape = (r.stop - r.start, c.stop - c.start)
            xr = x[r].to(dtype)
            scores = torch.mm(xr, yc.T, out=buffers.get("scores", *shape))
            positive, excluded = pairs.block(r, c, device)
            signed = torch.add(scores, bias, out=buffers.get("signed", *shape)) if shifted else scores.clone()
            if positive is not None:
                signed = torch.where(positive, -signed, signed)
            if excluded is not None:
                signed.masked_fill_(excluded, -torch.inf)
            weight = pairs.weight(r, c)
            if values is not None:
                losses = F.softplus(signed, threshold=1e4)
                values[r] += (losses if weight is None else losses * weight).sum(1)
            if not any(needs):
                continue
            assert weights is not None
            g = signed.sigmoid_().mul_(weights[r, None])
            if weight is not None:
                g.mul_(weight)
            if positive is not None:
                g = torch.where(positive, -g, g)
            if dbias is not None:
                dbias += g.sum(dtype=dtype)
            if dscale is not None:
                dscale[c] += torch.mul(g, scores, out=scores).sum(0)
            if dx is not None:
                dx[r].addmm_(g, yc)
            if dyc is not None:
                dyc.addmm_(g.T, xr)
        if dy is not None and dyc is not None:
            dy[c] = dyc * own_scale
    if dscale is not None:
        dscale = (dscale / scale if scale.dim() else dscale.sum() / scale).to(scale.dtype)
    return (
        values,
        None if dx is None else dx.to(x.dtype),
        None if dy is None else dy.to(y.dtype),
        dscale,
        None if dbias is None else dbias.to(bias.dtype),
    )
