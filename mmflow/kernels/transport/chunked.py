"""Sinkhorn's iteration: on one exponentiated matrix where range and size allow, else by tiles, in one pass each.

Where all exponents of a matrix lie within `_SPAN` of each other, no sum of the scaling form (Cuturi, 2013) can leave
the range of float32: the plan's kernel is exponentiated once and kept, and each half of an iteration is its product
with a vector. That is the one matrix of the size of the scores that is ever made: up to `_KEPT_BYTES` beside scores
that the caller holds anyway, up to a tile of the other operations where features are given.

Otherwise a cache-sized tile is exponentiated at a time, once per iteration.

In powers of two and without its marginals the plan is a_i b_j 2^(z_ij + f_i + g_j), z = log2(e) / epsilon times the
score. A pass exponentiates a tile of rows once. The tile's row sums, weighted by b, give the new f; the tile divided by
them, weighted by a, adds up over the columns to what the next g divides by: rows and columns are balanced in one read.

No maximum is subtracted. After g was balanced under the last f, no entry exceeds 1 / a_i, so that the last f, averaged
over the tile and added to g, brings the entries into range. Where rows of one tile lie too far apart for that (the
first iterations of a small epsilon), their sums leave the range, and the tile is done again with its rows' maxima.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..products import times_transposed

_TILE_BYTES = 4 << 20
_KEPT_BYTES = 64 << 20
_KEPT_BYTES_OF_FEATURES = 16 << 20
_SPAN = 60.0


def sinkhorn(
    x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    matrices = x.flatten(0, -3) if x.dim() > 2 else x[None]
    rows, columns = a.reshape(len(matrices), -1), b.reshape(len(matrices), -1)
    # Small matrices share a tile, a large one is cut into several.
    step = max(1, _TILE_BYTES // (rows.shape[1] * columns.shape[1] * a.element_size()))
    parts = [
        _Stack(matrices[i : i + step], y, rows[i : i + step], columns[i : i + step], epsilon).balance(iterations)
        for i in range(0, len(matrices), step)
    ]
    f, g = (torch.cat(part) for part in zip(*parts, strict=True))
    return f.view_as(a), g.view_as(b)


class _Stack:
    """Score matrices x [S, N, M], or with y [M, D] the features x [1, N, D] of one; S = 1 where N x M exceeds a tile.

    Row potentials are [S, N, 1], column potentials [S, 1, M].
    """

    def __init__(self, x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float) -> None:
        self.x, self.y, self.epsilon = x, None if y is None else y.to(a.dtype), epsilon
        self.a, self.b = a.unsqueeze(2), b.unsqueeze(1)
        self.f, self.g = torch.zeros_like(self.a), torch.zeros_like(self.b)
        self.scale = math.log2(math.e) / epsilon
        count, n, m = len(a), a.shape[1], b.shape[1]
        self.step = min(n, max(1, _TILE_BYTES // (m * a.element_size())))
        self.buffer = a.new_empty(count * self.step * m)
        # Half the range of exponents: terms lost below it are no part of the sum.
        self.least = torch.finfo(a.dtype).tiny ** 0.5 * float(b.sum(1).amax())

    def balance(self, iterations: int) -> tuple[Tensor, Tensor]:
        """Row potentials [S, N] and column potentials [S, M], in units of the score."""
        if not self._scale(iterations):
            self._balance_columns()
            sums = self._balance_rows()
            for _ in range(iterations - 1):
                self.g = torch.where(self.b > 0, self.g - sums.log2(), -torch.inf)
                sums = self._balance_rows()
        unit = self.epsilon * math.log(2)
        f = unit * self.f + self.epsilon * self.a.log()
        return f.squeeze(2), (unit * self.g + self.epsilon * self.b.log()).squeeze(1)

    def _scale(self, iterations: int) -> bool:
        """Sets both potentials by the scaling form; False where the kernel is too large or its range too wide."""
        count, n, m = len(self.x), self.a.shape[1], self.b.shape[2]
        size = count * n * m * self.a.element_size()
        if size > (_KEPT_BYTES if self.y is None else _KEPT_BYTES_OF_FEATURES):
            return False
        scores = self.x.to(self.a.dtype)
        if self.y is not None:
            scores = times_transposed(scores[0], self.y)[None]
        low, top = scores.flatten(1).aminmax(dim=1)
        if not bool(((top - low) * self.scale <= _SPAN).all()):
            return False
        top = (top * self.scale)[:, None, None]
        kernel = torch.add(-top, scores, alpha=self.scale).exp2_()
        down = kernel.sum(1)
        if count == 1:
            across = self._alternate(kernel[0], self.a[0, :, 0], self.b[0, 0], down[0], iterations, torch.mv)
        else:
            across = self._alternate(kernel, self.a, self.b.mT, down[:, :, None], iterations, torch.bmm)
        self.f = across.log2().neg_().view_as(self.a)
        self.g = down.log2().neg_().view_as(self.b) - top
        return True

    @staticmethod
    def _alternate(
        kernel: Tensor, a: Tensor, b: Tensor, down: Tensor, iterations: int, product: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Sums over the rows of the balanced kernel; sets `down`, those over the columns of the first, to the last."""
        across = product(kernel, b / down)
        for _ in range(iterations - 1):
            down.copy_(product(kernel.mT, a / across))
            across = product(kernel, b / down)
        return across

    def _balance_columns(self) -> None:
        """g under rows of equal potential: running log-sum-exps of the columns."""
        top, mass = torch.full_like(self.g, -torch.inf), torch.zeros_like(self.g)
        for r in self._blocks():
            z = self._exponents(r, self.g)
            new = torch.maximum(top, z.amax(1, keepdim=True))
            base = torch.where(new.isinf(), 0.0, new)
            mass = mass * (top - base).exp2() + z.sub_(base).exp2_().sum(1, keepdim=True)
            top = new
        self.g = torch.where(self.b > 0, -top - mass.log2(), -torch.inf)

    def _balance_rows(self) -> Tensor:
        """f under g, and the sums [S, 1, M] of the columns under both."""
        sums = torch.zeros_like(self.b)
        for r in self._blocks():
            shift = self.f[:, r].mean(1, keepdim=True)
            share = self._exponents(r, self.g + shift).exp2_()
            mass = self._row_sums(share)
            low, high = mass.aminmax()
            if not (low > self.least and high < torch.inf):
                share = self._exponents(r, self.g)
                shift = -share.amax(2, keepdim=True)
                mass = self._row_sums(share.add_(shift).exp2_())
            self.f[:, r] = shift - mass.log2()
            sums += torch.bmm((self.a[:, r] / mass).mT, share)
        return sums

    def _exponents(self, r: slice, g: Tensor) -> Tensor:
        """z + g [S, n, M] of the rows, in the buffer."""
        tile = self.buffer[: len(self.x) * (r.stop - r.start) * g.shape[2]].view(len(self.x), -1, g.shape[2])
        x = self.x[:, r]
        if self.y is not None:
            tile = times_transposed(x[0].to(g.dtype), self.y, tile[0])[None]
        elif x.dtype != g.dtype:
            tile.copy_(x)
        else:
            return torch.add(g, x, alpha=self.scale, out=tile)
        return torch.add(g, tile, alpha=self.scale, out=tile)

    def _row_sums(self, share: Tensor) -> Tensor:
        # bmm multiplies a matrix with a vector well, but not many small ones
        return torch.bmm(share, self.b.mT) if len(share) == 1 else (share * self.b).sum(2, keepdim=True)

    def _blocks(self) -> Iterator[slice]:
        n = self.a.shape[1]
        for i in range(0, n, self.step):
            yield slice(i, min(i + self.step, n))
