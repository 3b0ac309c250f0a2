"""InfoNCE of a small batch whose positives lie on the diagonal: one product and two log-softmaxes."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque
from ...products import times
from ..tiles.chunked import compute_dtype
from ..tiles.small import FEWEST


def small_info_nce(x: Tensor, y: Tensor, temperature: float | Tensor, rows: bool, columns: bool, mean: bool) -> Tensor:
    """The loss of x [N, D] and y [N, D] over `rows`, `columns` or both; the mean or the sum over pairs."""
    n = x.shape[0]
    # autocast would round the products, those of the backward too
    if n * n <= FEWEST and not torch.is_autocast_enabled("cpu"):
        if not x.dtype == y.dtype == torch.float32:
            dtype = compute_dtype(x, y)
            x, y = x.to(dtype), y.to(dtype)
        logits = torch.mm(x, y.t()) / temperature
        if rows and columns:
            return (logits.log_softmax(1) + logits.log_softmax(0)).trace() * (-0.5 / n if mean else -0.5)
        return logits.log_softmax(int(rows)).trace() * (-1 / n if mean else -1.0)
    return _with_gradient(x, y, temperature, rows, columns, mean)


@opaque
def _with_gradient(x: Tensor, y: Tensor, temperature: float | Tensor, rows: bool, columns: bool, mean: bool) -> Tensor:
    return _OneTile.apply(x, y, temperature, rows, columns, mean)


class _OneTile(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, temperature: float | Tensor, rows: bool, columns: bool, mean: bool):
        dtype = compute_dtype(x, y)
        a, b = x.to(dtype), y.to(dtype)
        scale = 1 / float(temperature)
        raw = times(a, b.T)
        logits = raw * scale
        logs = [logits.log_softmax(dim) for dim in ((1,) if rows else ()) + ((0,) if columns else ())]
        share = 1 / (len(logs) * (len(a) if mean else 1))
        loss = (logs[0].trace() if len(logs) == 1 else logs[0].trace() + logs[1].trace()) * -share
        if any(ctx.needs_input_grad):
            # a probability less 1, to full precision next to 1
            slopes = [log.diagonal().expm1() for log in logs]
            g = logs[0].exp_()
            if len(logs) == 2:
                g.add_(logs[1].exp_())
                slopes[0].add_(slopes[1])
            g.diagonal().copy_(slopes[0])
            ctx.scale, ctx.share, ctx.dtypes = scale, share, (x.dtype, y.dtype)
            ctx.like = temperature.dtype if isinstance(temperature, Tensor) else None
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
        dt = (torch.dot(g.view(-1), raw.view(-1)) * -ctx.scale).to(ctx.like) if needs[2] else None
        return dx, dy, dt, None, None, None
