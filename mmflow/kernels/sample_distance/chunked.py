"""Match probabilities by tiles of items: one product of all their samples, reduced at once."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..tiles import TILE_BYTES, PairScores, Tile, score_matrices


def match_log_probability(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    match, no_match = score_matrices(SamplePairs, x, y, scale, shift)
    return match, no_match


def sample_contrast(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return SampleContrast.apply(SamplePairs, x, y, scale, shift)


class SampleContrast(torch.autograd.Function):
    """The loss is a plain sum over pairs, so that each tile's gradient is known as soon as its value is.

    `make` describes the pairs.
    """

    @staticmethod
    def forward(
        ctx: Any, make: Callable[..., PairScores], x: Tensor, y: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        pairs = make(x, y, scale, shift)
        total = torch.zeros_like(scale)
        for r, c in pairs.tiles():
            tile = pairs.tile(r, c)
            same = torch.arange(r.start, r.stop, device=x.device)[:, None] == torch.arange(
                c.start, c.stop, device=x.device
            )
            total -= torch.where(same, tile.by_row, tile.by_column).sum()
            if any(ctx.needs_input_grad):
                pairs.pull(r, c, tile, -same.to(x.dtype), same.to(x.dtype) - 1)
        ctx.save_for_backward(*pairs.gradients())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *(g * d[0] for g in ctx.saved_tensors)


class SamplePairs(PairScores):
    """`by_row` is log p, `by_column` log (1 - p); the state of a tile is its distances [n, J, m, K]."""

    def __init__(self, *tensors: Any) -> None:
        self.x, self.y, self.scale, self.shift = tensors
        self.rows, j, self.width = self.x.shape
        self.columns, k, _ = self.y.shape
        # Distances do not change when all samples move, and are most exact near the origin.
        middle = self.x.mean((0, 1))
        self.x, self.y = self.x - middle, self.y - middle
        pairs = max(1, TILE_BYTES // 4 // (j * k * self.x.element_size()))
        self.row_step = max(1, min(self.rows, int(pairs**0.5)))
        self.column_step = max(1, min(self.columns, pairs // self.row_step))
        self.dx, self.dy = torch.zeros_like(self.x), torch.zeros_like(self.y)
        self.d_scale, self.d_shift = torch.zeros_like(self.scale), torch.zeros_like(self.shift)

    def tile(self, r: slice, c: slice) -> Tile:
        x, y = self.x[r], self.y[c]
        squared = -2 * torch.mm(x.flatten(0, 1), y.flatten(0, 1).T).view(*x.shape[:2], *y.shape[:2])
        squared += (x * x).sum(2)[:, :, None, None]
        squared += (y * y).sum(2)
        distance = squared.clamp_min_(0.0).add_(1e-6).sqrt_()
        score = self._score(distance)
        count = math.log(x.shape[1] * y.shape[1])
        match = torch.logsumexp(F.logsigmoid(score), (1, 3)) - count
        return Tile(match, torch.logsumexp(F.logsigmoid(-score), (1, 3)) - count, distance, distance.nbytes)

    def _score(self, distance: Tensor) -> Tensor:
        return 2 * (self.shift - self.scale * distance)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        distance = tile.state
        score = self._score(distance)
        count = math.log(distance.shape[1] * distance.shape[3])

        def gain(sign: float, value: Tensor, d: Tensor) -> Tensor:
            """The sample pairs' shares in a log-mean, times the slope of log-sigmoid."""
            share = (F.logsigmoid(sign * score) - (value + count)[:, None, :, None]).exp_()
            return share.mul_((-sign * score).sigmoid_()).mul_(sign * d[:, None, :, None])

        d_score = 2 * (gain(1.0, tile.by_row, d_by_row) + gain(-1.0, tile.by_column, d_by_column))
        self.d_shift += d_score.sum()
        self.d_scale -= (d_score * distance).sum()
        # d |.|^2 = d score * -scale / (2 distance), and the difference's own factor 2.
        g = (d_score.mul_(-self.scale) / distance).flatten(2).flatten(0, 1)
        x, y = self.x[r].flatten(0, 1), self.y[c].flatten(0, 1)
        self.dx[r] += (x * g.sum(1, keepdim=True) - g @ y).view(-1, *self.x.shape[1:])
        self.dy[c] += (y * g.sum(0)[:, None] - g.T @ x).view(-1, *self.y.shape[1:])

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.dy, self.d_scale, self.d_shift
