"""Gram volume from projections on orthonormalized tuples, by tiles: R products and a sum of squares.

The remainder of an anchor is a difference, whose rounding in float32 (about 1e-7 of the anchor's square) is
more than the volumes of pairs that a model has learned to align. The few pairs of which less than a hundredth is left
are computed again from the remainder itself, a vector each, and so are their gradients.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..products import add_times, times_transposed
from ..tiles import TILE_BYTES, PairScores, Tile, contrast, score_matrices

_NEAR = 1e-2
_PAIR_BYTES = 4 << 20


def gram_volume(x: Tensor, basis: Tensor, squared: Tensor, eps: float) -> Tensor:
    return -score_matrices(partial(Volumes, eps), x, basis, squared)[0]


def gram_contrast(
    x: Tensor,
    basis: Tensor,
    squared: Tensor,
    eps: float,
    temperature: Tensor,
    label_smoothing: float,
    present: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return contrast(partial(Volumes, eps), temperature, present, present, label_smoothing, x, basis, squared)


class Volumes(PairScores):
    """Negative volumes; the state of a tile is its projections [n, R, m]."""

    symmetric = True

    def __init__(self, eps: float, *tensors: Any) -> None:
        self.eps = eps
        self.x, basis, self.squared = tensors
        self.rows, self.columns, self.others = len(self.x), len(basis), basis.shape[1]
        side = max(1, int((TILE_BYTES / self.x.element_size() / self.others) ** 0.5))
        self.row_step, self.column_step = min(self.rows, side), min(self.columns, side)
        self.basis = basis.transpose(0, 1)
        self.norms = (self.x * self.x).sum(1)
        self.dx = torch.zeros_like(self.x, memory_format=torch.contiguous_format)
        self.d_basis = torch.zeros_like(self.basis, memory_format=torch.contiguous_format)
        self.d_squared = torch.zeros_like(self.squared)

    def _directions(self, c: slice) -> Tensor:
        """[R m, D]."""
        return self.basis[:, c].flatten(0, 1)

    def tile(self, r: slice, c: slice) -> Tile:
        projections = times_transposed(self.x[r], self._directions(c)).view(r.stop - r.start, self.others, -1)
        volume = self._volume(projections, r, c)
        return Tile(volume, volume, projections, projections.nbytes)

    def _volume(self, projections: Tensor, r: slice, c: slice) -> Tensor:
        rest = self.norms[r, None].expand(-1, c.stop - c.start).contiguous()
        for m in range(self.others):
            rest.addcmul_(projections[:, m], projections[:, m], value=-1)
        volume = rest.mul_(self.squared[c]).clamp_min_(self.eps).sqrt_().neg_()
        self.refine(volume, r, c)
        return volume

    def refine(self, volume: Tensor, r: slice, c: slice) -> None:
        """Computes the negative volumes of near pairs again, in place."""
        for i, j in self._near(volume, r, c):
            rest, _ = self._remainders(i + r.start, j + c.start)
            det = (rest * rest).sum(1) * self.squared[c][j]
            volume[i, j] = det.clamp_min_(self.eps).sqrt_().neg_()

    def _near(self, volume: Tensor, r: slice, c: slice) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and columns, inside the tile, of the pairs of which little is left, a bounded number at a time."""
        if volume.dtype == torch.float64:
            return
        i, j = (volume * volume <= _NEAR * self.norms[r, None] * self.squared[c]).nonzero(as_tuple=True)
        step = max(1, _PAIR_BYTES // (self.x.shape[1] * self.x.element_size()))
        yield from zip(i.split(step), j.split(step), strict=True)

    def _remainders(self, i: Tensor, j: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The remainders [P, D] of the anchors of pairs, and their projections, R times [P]; projected out twice."""
        rest = self.x[i]
        projections = [rest.new_zeros(len(rest)) for _ in range(self.others)]
        for _ in range(2):
            for m, sums in enumerate(projections):
                q = self.basis[m][j]
                part = (rest * q).sum(1)
                rest = rest - part[:, None] * q
                sums += part
        return rest, projections

    def pull(self, r: slice, c: slice, tile: Tile, d_by_row: Tensor, d_by_column: Tensor | None) -> None:
        volume = tile.by_row
        # det = volume^2, so d det = d score / (2 score), and nothing at the floor.
        d_det = (d_by_row / (2 * volume)).masked_fill_(volume * volume <= self.eps * (1 + 1e-6), 0.0)
        squared = self.squared[c]
        tiny = torch.finfo(squared.dtype).tiny
        self.d_squared[c] += (d_det * volume * volume).sum(0) / squared.clamp_min(tiny)
        d_rest = d_det.mul_(squared)
        for i, j in self._near(volume, r, c):
            self._pull_near(i, j, r, c, d_rest)
        directions = self._directions(c)
        d_projections = self.projection_slopes(r, c, tile, d_rest).flatten(1)
        x = self.x[r]
        self.dx[r] += x * (2 * d_rest.sum(1, keepdim=True))
        add_times(self.dx[r], d_projections, directions)
        self.d_basis[:, c] += times_transposed(d_projections.T, x.T).view(self.others, -1, x.shape[1])

    def _pull_near(self, i: Tensor, j: Tensor, r: slice, c: slice, d_rest: Tensor) -> None:
        """Adds the gradients of near pairs from their remainders, and takes them out of `d_rest`.

        The part of a basis vector's gradient along the basis itself only turns the basis, which changes no volume.
        """
        rest, projections = self._remainders(i + r.start, j + c.start)
        rest *= 2 * d_rest[i, j][:, None]
        d_rest[i, j] = 0.0
        self.dx.index_put_((i + r.start,), rest, accumulate=True)
        for m, projection in enumerate(projections):
            self.d_basis[m].index_put_((j + c.start,), -projection[:, None] * rest, accumulate=True)

    def projection_slopes(self, r: slice, c: slice, tile: Tile, d_rest: Tensor) -> Tensor:
        """Gradients [n, R, m] of the projections, whose squares were subtracted."""
        return tile.state * (d_rest * -2).unsqueeze(1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self.dx, self.d_basis.transpose(0, 1), self.d_squared
