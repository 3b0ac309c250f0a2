"""Soft targets of pairs, computed by tile from two further matrices: a softmax of their scores, or of its top k."""

import torch
from torch import Tensor

from ..dispatch import opaque
from ..products import times_transposed
from .pairs import Pairs
from .tiles import TILE, Stream, Want, compute_dtype, normalizer, spans


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

    @opaque
    def prepare(self, want: Want, top_k: int | None) -> None:
        """Sums and bars where the block is the whole batch."""
        n, m = self.a.shape[0], self.b.shape[0]
        best = best_for((n, m), (n, m), want, top_k, self.dtype, self.a.device)
        self.add_best(best)
        self.least = [None if side is None else side.bars(self.rounding()) for side in best]
        streams = streams_for((n, m), (n, m), want, self.dtype, self.a.device)
        self.add_sums(streams)
        self.lse = [None if stream is None else stream.sums().lse for stream in streams]

    def add_best(self, best: "tuple[Best | None, Best | None]") -> None:
        """Adds the scores of all pairs to the highest of their rows and of their columns."""
        if best == (None, None):
            return
        for c in spans(self.b.shape[0], self.step):
            for r in spans(self.a.shape[0], self.step):
                scores = self.scores(r, c)
                for side, at, tile in zip(best, (r, c), (scores, scores.T), strict=True):
                    if side is not None:
                        side.add(at, tile)

    def add_sums(self, streams: tuple[Stream | None, Stream | None]) -> None:
        """Adds the scores of all pairs, as far as bars let them, to the sums of their rows and of their columns."""
        for c in spans(self.b.shape[0], self.step):
            for r in spans(self.a.shape[0], self.step):
                scores = self.scores(r, c)
                for side, (stream, at) in enumerate(zip(streams, (r, c), strict=True)):
                    if stream is not None:
                        stream.add_running(at, self._kept(side, r, c, scores), None)

    def rounding(self) -> Tensor:
        """How far two computations of a score may lie apart."""
        norms = [torch.linalg.vector_norm(v, dim=1, dtype=self.dtype) for v in (self.a, self.b)]
        return 8 * torch.finfo(self.dtype).eps * norms[0].amax() * (norms[1] * self.scale.abs()).amax()

    def block(self, side: int, r: slice, c: slice) -> Tensor:
        """Target weights [n, m] of the tile: of its rows (side 0) or of its columns (side 1)."""
        lse = self.lse[side]
        assert lse is not None
        base, factor = normalizer(lse[r, None] if side == 0 else lse[None, c], None, None, self.dtype)
        soft = torch.exp(self._kept(side, r, c, self.scores(r, c)) - base).mul_(factor)
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

    def _kept(self, side: int, r: slice, c: slice, scores: Tensor) -> Tensor:
        least = self.least[side]
        if least is None:
            return scores
        return scores.masked_fill(scores < (least[r, None] if side == 0 else least[None, c]), -torch.inf)


class Best:
    """The k + 1 highest scores of each row, over a stream of tiles."""

    def __init__(self, values: Tensor):
        self.values = values

    def empty(self, rows: int) -> "Best":
        """As many of other rows, none met yet."""
        return Best(self.values.new_full((rows, self.values.shape[1]), -torch.inf))

    def add(self, at: slice, tile: Tensor) -> None:
        count = self.values.shape[1]
        highest = tile.topk(min(count, tile.shape[1]), dim=1).values
        self.values[at] = torch.cat([self.values[at], highest], 1).topk(count, dim=1).values

    def bars(self, rounding: Tensor) -> Tensor:
        """A bar below each row's k-th highest score, halfway to the next: rounding cannot move a score across it.

        Scores that differ from the k-th by less than `rounding` stay above the bar, as its ties do.
        """
        last, following = self.values[:, -2], self.values[:, -1]
        bar = torch.minimum((last + following) / 2, last - rounding)
        return torch.where(following == -torch.inf, following, bar)


def best_for(
    mine: tuple[int, int],
    whole: tuple[int, int],
    want: Want,
    top_k: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Best | None, Best | None]:
    """Of the rows and of the columns, `mine` of the `whole` batch; None where all of a side's scores are kept."""

    def side(wanted: bool, size: int, others: int) -> Best | None:
        if not wanted or top_k is None or top_k >= others:
            return None
        return Best(torch.full((size, top_k + 1), -torch.inf, dtype=dtype, device=device))

    return side(want.rows, mine[0], whole[1]), side(want.columns, mine[1], whole[0])


def streams_for(
    mine: tuple[int, int], whole: tuple[int, int], want: Want, dtype: torch.dtype, device: torch.device
) -> tuple[Stream | None, Stream | None]:
    """Empty sums of the teacher's rows and columns, `mine` of the `whole` batch."""
    bare = Want(want.rows, want.columns, target=False)
    return (
        Stream(mine[0], whole[1], 1, bare, None, dtype, device) if want.rows else None,
        Stream(mine[1], whole[0], 0, bare, None, dtype, device) if want.columns else None,
    )
