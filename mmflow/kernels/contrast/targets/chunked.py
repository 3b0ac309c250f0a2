"""Soft targets in PyTorch."""

import torch
from torch import Tensor

from ...products import times_transposed
from ..pairs import Pairs
from ..sums.slopes import normalizer
from ..tiles.chunked import TILE, compute_dtype


class Teacher:
    """A softmax, over rows or over columns, of <a_i, b_j> * scale_j, without gradient, of the pairs of a block.

    Attributes:
        hard: the share of the one-hot target in the mixture.
        lse: log-sum-exps of the rows and of the columns, None where a side is not asked for.
        least: bars of the rows and of the columns: scores below have weight 0; None keeps all.
    """

    step = TILE

    def __init__(self, a: Tensor, b: Tensor, scale: Tensor, pairs: Pairs, hard: float = 0.0):
        self.a, self.b, self.pairs, self.hard = a.detach(), b.detach(), pairs, hard
        self.dtype = compute_dtype(a, b, scale)
        self.scale = scale.detach().to(self.dtype)
        self.lse: list[Tensor | None] = [None, None]
        self.least: list[Tensor | None] = [None, None]

    def rounding(self) -> Tensor:
        """How far two computations of a score may lie apart."""
        norms = [torch.linalg.vector_norm(v, dim=1, dtype=self.dtype) for v in (self.a, self.b)]
        return 8 * torch.finfo(self.dtype).eps * norms[0].amax() * (norms[1] * self.scale.abs()).amax()

    def block(self, side: int, r: slice, c: slice) -> Tensor:
        """Target weights [n, m] of the tile: of its rows (side 0) or of its columns (side 1)."""
        lse = self.lse[side]
        assert lse is not None
        base, factor = normalizer(lse[r, None] if side == 0 else lse[None, c], self.dtype)
        soft = torch.exp(self.kept(side, r, c, self.scores(r, c)) - base).mul_(factor)
        if self.hard:
            positive, _ = self.pairs.block(r, c, soft.device)
            soft.mul_(1 - self.hard)
            if positive is not None:
                soft.add_(positive, alpha=self.hard)
        return soft

    def scores(self, r: slice, c: slice) -> Tensor:
        """Scores [n, m] of the tile, -inf where a pair is excluded."""
        scale = self.scale[c, None] if self.scale.dim() else self.scale
        s = times_transposed(self.a[r].to(self.dtype), self.b[c].to(self.dtype) * scale)
        _, excluded = self.pairs.block(r, c, s.device)
        return s if excluded is None else s.masked_fill_(excluded, -torch.inf)

    def kept(self, side: int, r: slice, c: slice, scores: Tensor) -> Tensor:
        least = self.least[side]
        if least is None:
            return scores
        return scores.masked_fill(scores < (least[r, None] if side == 0 else least[None, c]), -torch.inf)
