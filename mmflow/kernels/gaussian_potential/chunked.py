"""Uniformity in one pass over the upper triangle of tiles, its gradient included.

With E_ij = 2^(-t log2(e) |x_i - x_j|^2 - shift), the value needs sum E and the gradient of row i needs
x_i sum_j E_ij - sum_j E_ij x_j, both up to the one factor 1 / sum E. The shift is the largest exponent met so far;
terms that were added before are rescaled when it grows.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..products import add_times, times_transposed

_TILE = 1024


def uniformity(x: Tensor, t: float) -> Tensor:
    return _Uniformity.apply(x, t)


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, t: float) -> Tensor:
        n = len(x)
        # Distances do not change when all rows move, and are most exact near the origin.
        z = x - x.mean(0)
        norms = (z * z).sum(1)
        needs = ctx.needs_input_grad[0]
        # sum_j E_ij x_j over the tiles right of the diagonal, and, transposed, over those below it.
        kept = z if needs else z[:0]
        pull, pull_below = torch.zeros_like(kept), kept.new_zeros(kept.T.shape)
        rate = t * math.log2(math.e)
        weight = z.new_zeros(n)
        shift = z.new_tensor(-torch.inf)
        for i in range(0, n, _TILE):
            rows = slice(i, min(i + _TILE, n))
            for j in range(i, n, _TILE):
                columns = slice(j, min(j + _TILE, n))
                e = times_transposed(z[rows] * -2, z[columns])
                e.add_(norms[columns]).add_(norms[rows, None]).clamp_min_(0.0).mul_(-rate)
                if i == j:
                    e.fill_diagonal_(-torch.inf)
                new = torch.maximum(shift, e.amax())
                base = torch.where(new.isinf(), 0.0, new)
                factor = (shift - base).exp2()
                for sums in (weight, pull, pull_below):
                    sums *= factor
                shift = new
                e.sub_(base).exp2_()
                weight[rows] += e.sum(1)
                if needs:
                    add_times(pull[rows], e, z[columns])
                if i != j:
                    weight[columns] += e.sum(0)
                    if needs:
                        add_times(pull_below[:, columns], z[rows].T, e)
        total = weight.sum()
        if needs:
            ctx.save_for_backward((z * weight[:, None] - pull - pull_below.T).mul_(-4 * t / total))
        return shift * math.log(2) + total.log() - math.log(n * (n - 1))

    @staticmethod
    @once_differentiable
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.saved_tensors[0] * d[0], None
