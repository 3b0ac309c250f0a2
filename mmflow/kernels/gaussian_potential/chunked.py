"""Uniformity in one pass over the upper triangle of tiles, its gradient included.

With E_ij = exp(-t |x_i - x_j|^2 - shift), the value needs sum E and the gradient of row i needs
x_i sum_j E_ij - sum_j E_ij x_j, both up to the one factor 1 / sum E. The shift is the largest exponent met so far;
what was added before is rescaled when it grows.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 1024


def uniformity(x: Tensor, t: float) -> Tensor:
    return _Uniformity.apply(x, t)


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: float) -> Tensor:
        n = len(x)
        # Distances do not change when all rows move, and are most exact near the origin.
        z = x - x.mean(0)
        norms = (z * z).sum(1)
        needs = ctx.needs_input_grad[0]
        pull = torch.zeros_like(z) if needs else z.new_empty(0)
        weight = z.new_zeros(n)
        shift = z.new_tensor(-torch.inf)
        for i in range(0, n, _TILE):
            rows = slice(i, min(i + _TILE, n))
            for j in range(i, n, _TILE):
                columns = slice(j, min(j + _TILE, n))
                e = torch.addmm(norms[columns].expand(rows.stop - i, -1), z[rows], z[columns].T, alpha=-2)
                e.add_(norms[rows, None]).clamp_min_(0.0).mul_(-t)
                if i == j:
                    e.fill_diagonal_(-torch.inf)
                new = torch.maximum(shift, e.amax())
                base = torch.where(new.isinf(), 0.0, new)
                factor = (shift - base).exp()
                weight *= factor
                pull *= factor
                shift = new
                e.sub_(base).exp_()
                weight[rows] += e.sum(1)
                if needs:
                    pull[rows] += e @ z[columns]
                if i != j:
                    weight[columns] += e.sum(0)
                    if needs:
                        pull[columns] += e.T @ z[rows]
        total = weight.sum()
        if needs:
            ctx.save_for_backward((z * weight[:, None] - pull).mul_(-4 * t / total))
        return shift + total.log() - math.log(n * (n - 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.saved_tensors[0] * d[0], None
