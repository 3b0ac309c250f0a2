"""Sinkhorn's iteration on blocks of rows, one pass over the scores per iteration.

A pass holds a block's rows as distributions over columns (their row potentials are then known) and adds them, weighted
by the row marginal, to the column sums, which give the next column potentials: rows and columns are balanced in one
read. While the kernel fits into memory, the distributions of one pass are kept and later passes only rescale them,
u_i K_ij v_j (the scaling form; Sinkhorn and Knopp, 1967), two matrix-vector products on a block that is still in the
cache. When u or v leave [e^-20, e^20], they are absorbed into the potentials and K is computed anew (Schmitzer, 2019),
so that what underflowed in K stays negligible.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .reference import sinkhorn as log_domain

_BLOCK_BYTES = 4 << 20
_BATCH_BYTES = 16 << 20
_DRIFT = 20.0


def sinkhorn(
    x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float, iterations: int, kernel_bytes: int
) -> tuple[Tensor, Tensor]:
    if x.dim() > 2:
        return _batches(x, a, b, epsilon, iterations)
    return _Iteration(x, y, a, b, epsilon, kernel_bytes).run(iterations)


def _batches(scores: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    flat = scores.flatten(0, -3)
    rows, columns = a.flatten(0, -2), b.flatten(0, -2)
    step = max(1, _BATCH_BYTES // (flat[0].numel() * rows.element_size()))
    parts = [
        log_domain(flat[i : i + step].to(a.dtype), None, rows[i : i + step], columns[i : i + step], epsilon, iterations)
        for i in range(0, len(flat), step)
    ]
    f, g = (torch.cat(part) for part in zip(*parts, strict=True))
    return f.view_as(a), g.view_as(b)


class _Iteration:
    def __init__(self, x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float, kernel_bytes: int) -> None:
        self.x, self.y, self.a, self.b, self.epsilon = x, None if y is None else y.to(a.dtype), a, b, epsilon
        self.n, self.m = len(a), len(b)
        self.step = max(1, _BLOCK_BYTES // (self.m * a.element_size()))
        # f leaves out the row marginal: row i of the plan is a_i softmax_j((s + g) / epsilon).
        self.f, self.g = torch.zeros_like(a), torch.zeros_like(b)
        keeps = self.n * self.m * a.element_size() <= kernel_bytes
        self.kernel = a.new_empty(self.n, self.m) if keeps else None

    def run(self, iterations: int) -> tuple[Tensor, Tensor]:
        self._balance_columns_first()
        column_sums = self._pass()
        if self.kernel is not None:
            self._scale(iterations - 1, column_sums)
        else:
            for _ in range(iterations - 1):
                self.g = torch.where(self.b > 0, self.g + self.epsilon * (self.b / column_sums).log(), -torch.inf)
                column_sums = self._pass()
        return self.f + self.epsilon * self.a.log(), self.g

    def _balance_columns_first(self) -> None:
        """g from f = 0: running log-sum-exps of the columns, over every row."""
        top = torch.full_like(self.b, -torch.inf)
        mass = torch.zeros_like(self.b)
        for r, logits in self._logits(with_g=False):
            new = torch.maximum(top, logits.amax(0))
            mass = mass * (top - new).exp() + (logits - new).exp_().sum(0)
            top = new
            if self.kernel is not None:
                self.kernel[r] = logits
        self.g = self.epsilon * (self.b.log() - top - mass.log())

    def _logits(self, with_g: bool) -> Iterator[tuple[slice, Tensor]]:
        """(s + g) / epsilon by blocks of rows."""
        for r in self._blocks():
            rows = self.x[r].to(self.a.dtype)
            logits = rows / self.epsilon if self.y is None else torch.mm(rows / self.epsilon, self.y.T)
            yield r, logits.add_(self.g / self.epsilon) if with_g else logits

    def _pass(self, from_kernel: bool = True) -> Tensor:
        """Balances the rows under g; the sums of the plan's columns. Stores the rows' distributions where kept."""
        sums = torch.zeros_like(self.b)
        stored = self.kernel is not None and from_kernel
        for r, logits in self._stored() if stored else self._logits(with_g=True):
            top = logits.amax(1, keepdim=True)
            share = logits.sub_(top).exp_()
            mass = share.sum(1, keepdim=True)
            share.div_(mass)
            self.f[r] = -self.epsilon * (top + mass.log()).squeeze(1)
            sums += share.T.mv(self.a[r])
            if self.kernel is not None and not stored:
                self.kernel[r] = share
        return sums

    def _stored(self) -> Iterator[tuple[slice, Tensor]]:
        """The logits that the first pass left in the kernel's place, in place."""
        assert self.kernel is not None
        for r in self._blocks():
            yield r, self.kernel[r].add_(self.g / self.epsilon)

    def _blocks(self) -> Iterator[slice]:
        for i in range(0, self.n, self.step):
            yield slice(i, min(i + self.step, self.n))

    def _scale(self, iterations: int, column_sums: Tensor) -> None:
        """The remaining iterations on the kept distributions."""
        assert self.kernel is not None
        u, v = torch.ones_like(self.a), torch.ones_like(self.b)
        for _ in range(iterations):
            v = torch.where(self.b > 0, self.b / column_sums, 0.0)
            if _drift(u) > _DRIFT or _drift(v) > _DRIFT:
                self.g = self.g + self.epsilon * v.log()
                column_sums = self._pass(from_kernel=False)
                u, v = torch.ones_like(u), torch.ones_like(v)
                continue
            column_sums = torch.zeros_like(self.b)
            for r in self._blocks():
                block = self.kernel[r]
                u[r] = block.mv(v).reciprocal_()
                column_sums += block.T.mv(self.a[r] * u[r])
        self.f = self.f + self.epsilon * u.log()
        self.g = torch.where(self.b > 0, self.g + self.epsilon * v.log(), -torch.inf)


def _drift(scale: Tensor) -> float:
    return float(torch.where(scale > 0, scale.log().abs(), 0.0).amax())
