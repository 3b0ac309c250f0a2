"""Match probabilities by tiles of items: one product of all their samples, reduced at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..products import add_times, times_transposed
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
    def forward(ctx, make: Callable[..., PairScores], x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
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
    def backward(ctx, *d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *(g * d[0] for g in ctx.saved_tensors)


class SamplePairs(PairScores):
    """`by_row` is log p, `by_column` log (1 - p); the state of a tile is a `_Shares`.

    Samples of a block lie sample-major, so that a tile is [J, n, K, m] and sums over samples run over outer axes.
    """

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
        x, y = _sample_major(self.x[r]), _sample_major(self.y[c])
        shape = (self.x.shape[1], r.stop - r.start, self.y.shape[1], c.stop - c.start)
        squared = times_transposed(x * -2, y)
        squared += (x * x).sum(1, keepdim=True)
        squared += (y * y).sum(1)
        squared.clamp_min_(0.0).add_(1e-6)
        distance = squared.mul_(squared.rsqrt()).view(shape)
        shares = _Shares.of(distance, distance.mul(-2 * self.scale).add_(2 * self.shift))
        return Tile(*shares.log_means(), shares, sum(t.nbytes for t in shares))

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        shares: _Shares = tile.state
        d_score = shares.slopes(d_by_row, d_by_column).flatten(2).flatten(0, 1)
        distance = shares.distance.view_as(d_score)
        self.d_shift += 2 * d_score.sum()
        self.d_scale -= 2 * torch.dot(d_score.flatten(), distance.flatten())
        # d |.|^2 = d score * -2 scale / (2 distance), and the difference's own factor 2; less is minus that.
        less = d_score.mul_(2 * self.scale).div_(distance)
        x, y = _sample_major(self.x[r]), _sample_major(self.y[c])
        dx, dy = torch.zeros_like(x), y.new_zeros(y.T.shape)
        add_times(dx, less, y)
        add_times(dy, x.T, less)
        dx -= x * less.sum(1, keepdim=True)
        self.dx[r] += dx.view(self.x.shape[1], -1, self.width).transpose(0, 1)
        self.dy[c] += (dy.T - y * less.sum(0)[:, None]).view(self.y.shape[1], -1, self.width).transpose(0, 1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.dy, self.d_scale, self.d_shift


class _Shares(NamedTuple):
    """Sums over samples [n, m] of p = sigmoid(score) and q = 1 - p, their slopes and the distances [J, n, K, m].

    The sums and slopes of p are divided by e^level, those of q by e^level_q, where they would underflow otherwise.
    """

    distance: Tensor
    p_slope: Tensor
    q_slope: Tensor
    p_sum: Tensor
    q_sum: Tensor
    p_level: Tensor
    q_level: Tensor

    @classmethod
    def of(cls, distance: Tensor, score: Tensor) -> "_Shares":
        p, q = score.sigmoid(), score.neg().sigmoid_()
        p_sum, q_sum = _sum(p), _sum(q)
        least = torch.finfo(p.dtype).tiny ** 0.75
        if bool((torch.minimum(p_sum, q_sum) > least).all()):
            level = torch.zeros_like(p_sum)
            slope = p.mul_(q)
            return cls(distance, slope, slope, p_sum, q_sum, level, level)
        p_level, q_level = (F.logsigmoid(s.amax(0).amax(1)) for s in (score, -score))
        p = (F.logsigmoid(score) - p_level[:, None]).exp_()
        q = (F.logsigmoid(-score) - q_level[:, None]).exp_()
        p_sum, q_sum = _sum(p), _sum(q)
        return cls(distance, p.mul_(score.neg().sigmoid_()), q.mul_(score.sigmoid_()), p_sum, q_sum, p_level, q_level)

    def log_means(self) -> tuple[Tensor, Tensor]:
        """log mean p, log mean q."""
        count = self.distance.shape[0] * self.distance.shape[2]
        p, q = self.p_sum / count, self.q_sum / count
        # Next to 1, from the other's mean, which has more digits.
        p_log = torch.where((self.q_level == 0) & (q < 0.5), (-q).log1p(), p.log() + self.p_level)
        q_log = torch.where((self.p_level == 0) & (p < 0.5), (-p).log1p(), q.log() + self.q_level)
        return p_log, q_log

    def slopes(self, d_p: Tensor, d_q: Tensor) -> Tensor:
        """[J, n, K, m]: gradient of the scores where log mean p and log mean q have the gradients given."""
        p_gain, q_gain = d_p / self.p_sum, d_q / self.q_sum
        if self.p_slope is self.q_slope:
            return self.p_slope * (p_gain - q_gain)[:, None]
        return self.p_slope * p_gain[:, None] - self.q_slope * q_gain[:, None]


def _sum(tile: Tensor) -> Tensor:
    """[n, m], over the samples of a tile [J, n, K, m]; one axis at a time is several times as fast as both."""
    return tile.sum(0).sum(1)


def _sample_major(block: Tensor) -> Tensor:
    """[n, J, D] as rows [J n, D]."""
    return block.transpose(0, 1).reshape(-1, block.shape[2])
