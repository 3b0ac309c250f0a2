"""The sigmoid core over a batch that is split over ranks: this rank's rows meet all columns, block by block."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque
from ..pairs import Pairs
from ..ranks import Exchange, Tensors
from ..ranks.rounds import Block, Gradients, add_all, needed
from ..tiles.chunked import compute_dtype
from .chunked import Sweep


@opaque
def sigmoid_rows(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Tensor,
    pairs: Pairs,
    summed: bool,
    exchange: Exchange,
    sweep: Sweep,
) -> Tensor:
    """As `chunked.sigmoid_rows` over the global batch, for this rank's rows."""
    rows = _Sigmoid.apply(x, y, scale, bias, weights.detach(), pairs, summed, exchange, sweep)
    return rows if summed else rows * weights


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        bias: Tensor,
        weights: Tensor,
        pairs: Pairs,
        summed: bool,
        exchange: Exchange,
        sweep: Sweep,
    ):
        x, scale, bias = x.detach(), scale.detach(), bias.detach()
        block = Block(exchange, y.detach(), scale, pairs)
        ctx.block, ctx.sweep, ctx.summed = block, sweep, summed
        values, found = _sigmoid_round(x, block, bias, weights if summed else None, sweep, summed, True)
        if summed:
            ctx.save_for_backward(*found)
            return (values * weights).sum()
        ctx.save_for_backward(x, bias)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.summed:
            found = [g * grad.to(g.dtype) for g in ctx.saved_tensors]
        else:
            x, bias = ctx.saved_tensors
            _, found = _sigmoid_round(x, ctx.block, bias, grad, ctx.sweep, True, False)
        return *needed(found, ctx.needs_input_grad[:4]), None, None, None, None, None


def _sigmoid_round(
    x: Tensor,
    block: Block,
    bias: Tensor,
    weights: Tensor | None,
    sweep: Sweep,
    with_gradients: bool,
    with_values: bool,
) -> tuple[Tensor, Tensors]:
    y, scale = block.tensors[0], block.scale
    values = torch.zeros(x.shape[0], dtype=compute_dtype(x, y, scale), device=x.device)
    totals = Gradients(block.exchange, x, y, scale, bias)

    def visit(owner: int, tensors: Tensors, sums: Tensors) -> Tensors:
        y, own, rules, _ = block.unpack(tensors, owner)
        more, dx, dy, dscale, dbias = sweep(x, y, own, bias, weights, rules, (with_gradients,) * 4, with_values)
        if more is not None:
            values.add_(more)
        if dx is None or dy is None or dscale is None:
            return sums
        return totals.add(sums, dx, dy, dscale, dbias)

    home = block.exchange.round(block.tensors, totals.empty if with_gradients else _nothing, visit, add_all)
    return values, totals.found(home) if with_gradients else []


def _nothing(owner: int) -> Tensors:
    return []
