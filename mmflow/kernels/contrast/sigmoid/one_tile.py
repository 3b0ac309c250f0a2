"""The sigmoid loss of a small batch whose positives lie on the diagonal: one product, one matrix."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ...dispatch import opaque
from ...products import times
from ..tiles.chunked import compute_dtype
from ..tiles.small import FEWEST


def small_sigmoid(x: Tensor, y: Tensor, temperature: float | Tensor, bias: float | Tensor, mean: bool) -> Tensor:
    """The loss of x [N, D] and y [N, D]: the sum over all pairs, divided by N where the `mean` is asked."""
    n = x.shape[0]
    # autocast would round the products, those of the backward too
    if n * n <= FEWEST and not torch.is_autocast_enabled("cpu"):
        if not x.dtype == y.dtype == torch.float32:
            dtype = compute_dtype(x, y)
            x, y = x.to(dtype), y.to(dtype)
        if isinstance(bias, Tensor):
            logits = torch.addmm(bias.to(x.dtype), x / temperature, y.t())
        else:
            logits = torch.mm(x, y.t()) / temperature + bias
        sign = torch.ones(n, n, dtype=x.dtype).fill_diagonal_(-1)
        losses = F.softplus(logits * sign, threshold=_threshold(x.dtype)).sum()
        return losses * (1 / n) if mean else losses
    return _with_gradient(x, y, temperature, bias, mean)


def _threshold(dtype: torch.dtype) -> float:
    """The score beyond which the loss of a wrong pair is the score itself, to the last digit."""
    return 20.0 if dtype == torch.float32 else 40.0


@opaque
def _with_gradient(x: Tensor, y: Tensor, temperature: float | Tensor, bias: float | Tensor, mean: bool) -> Tensor:
    return _OneTile.apply(x, y, temperature, bias, mean)


class _OneTile(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, temperature: float | Tensor, bias: float | Tensor, mean: bool):
        dtype = compute_dtype(x, y)
        a, b = x.to(dtype), y.to(dtype)
        scale, share = 1 / float(temperature), 1 / len(a) if mean else 1.0
        raw = times(a, b.T)
        signed = raw * scale
        if offset := float(bias):
            signed.add_(offset)
        signed.diagonal().neg_()
        loss = F.softplus(signed, threshold=_threshold(dtype)).sum() * share
        if any(ctx.needs_input_grad):
            g = signed.sigmoid_()
            g.diagonal().neg_()
            ctx.scale, ctx.share, ctx.dtypes = scale, share, (x.dtype, y.dtype)
            ctx.like = tuple(v.dtype if isinstance(v, Tensor) else dtype for v in (temperature, bias))
            ctx.save_for_backward(a, b, g, raw if ctx.needs_input_grad[2] else None)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        a, b, g, raw = ctx.saved_tensors
        needs = ctx.needs_input_grad
        g = g * (grad * (ctx.scale * ctx.share))
        dx = times(g, b).to(ctx.dtypes[0]) if needs[0] else None
        dy = times(g.T, a).to(ctx.dtypes[1]) if needs[1] else None
        dt = (torch.dot(g.view(-1), raw.view(-1)) * -ctx.scale).to(ctx.like[0]) if needs[2] else None
        db = (g.sum() * (1 / ctx.scale)).to(ctx.like[1]) if needs[3] else None
        return dx, dy, dt, db, None
