"""Late interaction by tiles of pairs: one matrix product a tile serves both directions, and only maxima leave it.

A tile of n x m items is one product of all their tokens. Tokens of x lie token-major, so that a tile is
[m, T, P, n] and both maxima run over an outer axis with the n items contiguous: pooling, vectorized. Padding costs
nothing: two further features carry a mask as a very negative term of the product itself.

The gradient of a maximum touches one token. Where tokens are many it is gathered: every token's gradient is a weighted
sum of the rows that it met as a maximum, by index for one direction and by sorted index for the other, which moves
(P + T) D numbers a pair instead of multiplying 4 P T D. Where tokens are few the sparse tile is multiplied instead.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maxima import first_maxima
from ..products import times_transposed
from ..tiles import TILE_BYTES, PairScores, Tile, contrast, score_matrices

# Far below any similarity, and finite, so that a masked token costs no NaN.
_MASKED = -1e30
# Gathering wins over a dense product from about this harmonic number of tokens on.
_GATHER_FROM = 8.0


def max_sim(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
) -> tuple[Tensor, Tensor]:
    over_y, over_x = score_matrices(partial(_pairs, inner), x, y, x_weight, y_weight, x_valid, y_valid)
    return over_y, over_x


def max_sim_contrast(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
    temperature: Tensor,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    x_present = None if x_valid is None else x_valid.any(1)
    y_present = None if y_valid is None else y_valid.any(1)
    return contrast(
        partial(_pairs, inner), temperature, x_present, y_present, label_smoothing,
        x, y, x_weight, y_weight, x_valid, y_valid,
    )  # fmt: skip


def _pairs(inner: float | None, *tensors: Any) -> PairScores:
    return TokenMaxima(*tensors) if inner is None else SoftMaxima(*tensors, inner)


class _TokenTiles(PairScores):
    """The products of tokens by tile, and what both kinds of pooling share."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        x_weight: Tensor,
        y_weight: Tensor,
        x_valid: Tensor | None,
        y_valid: Tensor | None,
        tile_bytes: int,
    ) -> None:
        self.rows, self.x_tokens, self.width = x.shape
        self.columns, self.y_tokens, _ = y.shape
        self.x, self.y, self.x_weight, self.y_weight = x, y.contiguous(), x_weight, y_weight
        self.x_some = None if x_valid is None else x_valid.any(1)
        self.y_some = None if y_valid is None else y_valid.any(1)
        self.x_valid, self.y_valid = x_valid, y_valid
        self.masked = x_valid is not None or y_valid is not None
        pairs = max(1, tile_bytes // (self.x_tokens * self.y_tokens * x.element_size()))
        self.row_step = max(1, min(self.rows, 32, pairs))
        self.column_step = max(1, min(self.columns, pairs // self.row_step))
        self.y_features = self._features(self.y, y_valid, last=False)
        self.dx = self.dy = self.dx_weight = self.dy_weight = None
        self._at: slice | None = None
        # One buffer for all tiles: fresh memory of this size costs page faults and scatters the heap.
        self.buffer = x.new_empty(self.row_step * self.column_step * self.x_tokens * self.y_tokens)

    def _features(self, tokens: Tensor, valid: Tensor | None, *, last: bool) -> Tensor:
        """Tokens with two more features, [1, mask] or [mask, 1], whose products add both masks to a similarity."""
        if not self.masked:
            return tokens
        one = tokens.new_ones(*tokens.shape[:2], 1)
        mask = torch.zeros_like(one) if valid is None else (~valid).unsqueeze(2) * tokens.new_tensor(_MASKED)
        return torch.cat([tokens, one, mask] if last else [tokens, mask, one], 2)

    def _rows_at(self, r: slice) -> None:
        """Prepares the token-major rows of block `r`: [P n, D], with and without the mask's features."""
        if self._at != r:
            self._at = r
            self.x_block = self.x[r].transpose(0, 1).reshape(-1, self.width)
            valid = None if self.x_valid is None else self.x_valid[r].T
            features = self.x_block.view(self.x_tokens, -1, self.width)
            self.x_features = self._features(features, valid, last=True).flatten(0, 1)
            self.x_weight_block = self.x_weight[r].T.contiguous()

    def similarity(self, r: slice, c: slice) -> Tensor:
        """[m, T, P, n]."""
        self._rows_at(r)
        shape = (c.stop - c.start, self.y_tokens, self.x_tokens, r.stop - r.start)
        y_features = self.y_features[c].flatten(0, 1)
        tile = self.buffer[: math.prod(shape)].view(len(y_features), -1)
        return times_transposed(y_features, self.x_features, tile).view(shape)

    def scores(self, r: slice, c: slice, over_y: Tensor, over_x: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sums over tokens of the maxima [m, P, n] and [m, T, n]."""
        by_row = (over_y * self.x_weight_block).sum(1).T
        by_column = (over_x * self.y_weight[c].unsqueeze(2)).sum(1).T
        return self.some(r, c, by_row), self.some(r, c, by_column)

    def some(self, r: slice, c: slice, tile: Tensor) -> Tensor:
        """Zero where either item has no valid token."""
        if self.x_some is not None:
            tile = tile.masked_fill(~self.x_some[r, None], 0.0)
        if self.y_some is not None:
            tile = tile.masked_fill(~self.y_some[None, c], 0.0)
        return tile

    def _add_rows(self, r: slice, d: Tensor) -> None:
        if self.dx is None:
            self.dx = torch.zeros_like(self.x, memory_format=torch.contiguous_format)
        self.dx[r] += d.view(self.x_tokens, -1, self.width).transpose(0, 1)

    def _add_columns(self, c: slice, d: Tensor) -> None:
        if self.dy is None:
            self.dy = torch.zeros_like(self.y)
        self.dy[c] += d.view(-1, self.y_tokens, self.width)

    def _add_weights(self, r: slice, c: slice, d_x: Tensor, d_y: Tensor) -> None:
        """Gradients [P, n] and [m, T] of the token weights."""
        if self.dx_weight is None or self.dy_weight is None:
            self.dx_weight, self.dy_weight = torch.zeros_like(self.x_weight), torch.zeros_like(self.y_weight)
        self.dx_weight[r] += d_x.T
        self.dy_weight[c] += d_y

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.dy, self.dx_weight, self.dy_weight, None, None


class TokenMaxima(_TokenTiles):
    """Hard maxima: the state of a tile is the two index tensors, int16 where tokens number less than 2^15."""

    def __init__(self, *tensors: Any) -> None:
        super().__init__(*tensors, tile_bytes=TILE_BYTES)
        p, t = self.x_tokens, self.y_tokens
        self.gathers = p * t / (p + t) >= _GATHER_FROM
        self.index = torch.int16 if max(p, t) < 1 << 15 else torch.int32

    def tile(self, r: slice, c: slice) -> Tile:
        similarity = self.similarity(r, c)
        over_y, t_index = first_maxima(similarity.flatten(2))
        over_x, p_index = first_maxima(similarity.flatten(0, 1))
        m, n = c.stop - c.start, r.stop - r.start
        over_y, over_x = over_y.view(m, -1, n), over_x.view(m, -1, n)
        state = t_index.to(self.index).view(m, -1, n), p_index.to(self.index).view(m, -1, n)
        return Tile(*self.scores(r, c, over_y, over_x), state, state[0].nbytes + state[1].nbytes)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        self._rows_at(r)
        d_row = self.some(r, c, d_by_row).T.contiguous()
        d_column = self.some(r, c, d_by_column).T.contiguous()
        (self._pull_gathered if self.gathers else self._pull_dense)(r, c, tile.state, d_row, d_column)

    def _pull_gathered(self, r: slice, c: slice, state: tuple[Tensor, Tensor], d_row: Tensor, d_column: Tensor) -> None:
        t_index, p_index = (index.int() for index in state)
        m, n = d_row.shape
        p, t = self.x_tokens, self.y_tokens
        y_rows = self.y[c].flatten(0, 1)
        # Row of y that token (p, i) met in item j, and row of x that token (j, t) met in item i.
        met_y = t_index + torch.arange(0, m * t, t, dtype=torch.int32, device=t_index.device)[:, None, None]
        met_x = p_index * n + torch.arange(n, dtype=torch.int32, device=t_index.device)
        x_gain = _bags(met_y.permute(1, 2, 0).reshape(p * n, m), y_rows, d_row.T.expand(p, n, m).reshape(p * n, m))
        y_gain = _bags(met_x.view(m * t, n), self.x_block, d_column[:, None, :].expand(m, t, n).reshape(m * t, n))
        dx = x_gain * self.x_weight_block.view(-1, 1)
        dy = y_gain * self.y_weight[c].reshape(-1, 1)
        weighted = (d_column[:, None, :] * self.y_weight[c].unsqueeze(2)).flatten()
        dx += _scattered(met_x.flatten(), p * n, y_rows, n, weighted)
        weighted = d_row[:, None, :] * self.x_weight_block
        dy += _scattered(met_y.flatten(), m * t, self.x_block, 1, weighted.flatten(), period=p * n)
        self._add_rows(r, dx)
        self._add_columns(c, dy)
        self._add_weights(r, c, (self.x_block * x_gain).sum(1).view(p, n), (y_rows * y_gain).sum(1).view(m, t))

    def _pull_dense(self, r: slice, c: slice, state: tuple[Tensor, Tensor], d_row: Tensor, d_column: Tensor) -> None:
        t_index, p_index = (index.long() for index in state)
        m, n = d_row.shape
        p, t = self.x_tokens, self.y_tokens
        y_rows = self.y[c].flatten(0, 1)
        g = d_row.new_zeros(m, t, p, n)
        g.scatter_(1, t_index.unsqueeze(1), d_row[:, None, None, :].expand(m, 1, p, n))
        flat = g.view(m * t, p * n)
        x_gain = flat.T @ y_rows
        dy = flat @ (self.x_block * self.x_weight_block.view(-1, 1))
        g.zero_().scatter_(2, p_index.unsqueeze(2), d_column[:, None, None, :].expand(m, t, 1, n))
        y_gain = flat @ self.x_block
        y_weight = self.y_weight[c].reshape(-1, 1)
        self._add_rows(r, torch.addmm(x_gain * self.x_weight_block.view(-1, 1), flat.T, y_rows * y_weight))
        self._add_columns(c, dy.addcmul_(y_gain, y_weight))
        self._add_weights(r, c, (self.x_block * x_gain).sum(1).view(p, n), (y_rows * y_gain).sum(1).view(m, t))


class SoftMaxima(_TokenTiles):
    """Softmax-weighted means of the similarities, computed again in the backward."""

    def __init__(self, *tensors: Any) -> None:
        *shared, self.inner = tensors
        super().__init__(*shared, tile_bytes=TILE_BYTES // 4)

    def tile(self, r: slice, c: slice) -> Tile:
        similarity = self.similarity(r, c)
        over_y = ((similarity / self.inner).softmax(1) * similarity).sum(1)
        over_x = ((similarity / self.inner).softmax(2) * similarity).sum(2)
        return Tile(*self.scores(r, c, over_y, over_x), (over_y, over_x), over_y.nbytes + over_x.nbytes)

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        assert d_by_column is not None
        similarity = self.similarity(r, c)
        over_y, over_x = tile.state
        d_row = self.some(r, c, d_by_row).T.unsqueeze(1)
        d_column = self.some(r, c, d_by_column).T.unsqueeze(1)
        self._add_weights(r, c, (over_y * d_row).sum(0), (over_x * d_column).sum(2))
        g = self._slope(similarity, over_y, d_row * self.x_weight_block, 1)
        g += self._slope(similarity, over_x, d_column * self.y_weight[c].unsqueeze(2), 2)
        flat = g.view(-1, self.x_features.shape[0])
        self._add_rows(r, flat.T @ self.y[c].flatten(0, 1))
        self._add_columns(c, flat @ self.x_block)

    def _slope(self, similarity: Tensor, pooled: Tensor, gain: Tensor, dim: int) -> Tensor:
        share = (similarity / self.inner).softmax(dim)
        inside = (similarity - pooled.unsqueeze(dim)).div_(self.inner).add_(1.0)
        return share.mul_(inside).mul_(gain.unsqueeze(dim))


def _bags(index: Tensor, table: Tensor, weight: Tensor) -> Tensor:
    """sum_k weight[b, k] table[index[b, k]]."""
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


def _scattered(
    target: Tensor, size: int, table: Tensor, repeat: int, weight: Tensor, period: int | None = None
) -> Tensor:
    """out[target[e]] += weight[e] table[source of e], in the order of e, without atomics.

    The source of entry e is e // repeat, or e % period where a period is given.
    """
    order = target.sort(stable=True).indices
    source = order // repeat if period is None else order % period
    offsets = torch.searchsorted(
        target[order], torch.arange(size, dtype=target.dtype, device=target.device), out_int32=False
    )
    return F.embedding_bag(source, table, offsets, mode="sum", per_sample_weights=weight[order])
