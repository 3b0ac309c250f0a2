"""Ranks of right answers in rows of scores, with ties counted by expectation, and the values of guessing.

A tie is broken at random: a query whose right answer has the same score as others gets the mean over all orders
of the tied candidates. A model that gives every candidate the same score is then exactly at chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmflow.plugin import ABSENT, Encoding, Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

TIE = 1e-6
"""Scores closer than this (relative above 1) count as equal: about ten times the rounding of a float32 cosine."""
CELLS = 1 << 22
"""Scores that are held at a time."""
TOKEN_CELLS = 1 << 16
"""Scores asked for at a time where each is made of the tokens of two rows."""


@dataclass(frozen=True)
class Ranks:
    """Where the first right answer of each query stands; all arrays are float64 or int64 [Q].

    `above` counts the wrong candidates with a higher score than the best right one, `tied` the wrong ones and
    `tied_right` the right ones with that very score; `right` counts the right ones among `candidates`. `queries` are
    the places of the queries, those that have a right answer. `precision` is the average precision of each, or None
    where it was not asked for.
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    tied_right: NDArray[np.int64]
    right: NDArray[np.int64]
    candidates: int
    queries: NDArray[np.int64]
    precision: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.above)

    def hits(self, k: int) -> NDArray[np.float64]:
        """Probability [Q] that a right answer is among the first `k`."""
        return hit_probability(k - self.above, self.tied, self.tied_right)

    def chance(self, k: int) -> float:
        """Expected share of hits among the first `k` of a random order: mean of 1 - C(n - r, k) / C(n, k)."""
        return float(hit_probability(np.full(len(self), k), self.candidates - self.right, self.right).mean())

    def expected(self) -> NDArray[np.float64]:
        """Expected rank [Q] of the first right answer, from 1."""
        return self.above + 1 + self.tied / (self.tied_right + 1)

    def chance_median(self) -> float:
        """Median rank of the first right answer in random orders."""
        below, above = self._quantile(strict=False), self._quantile(strict=True)
        return (below + above) / 2

    def chance_precision(self) -> float:
        """Expected average precision of a random order: (H_n + (r - 1)(n - H_n)/(n - 1)) / n, mean over queries."""
        n = self.candidates
        harmonic = float((1 / np.arange(1, n + 1)).sum())
        spread = (self.right - 1) * (n - harmonic) / (n - 1) if n > 1 else np.zeros(len(self))
        return float(((harmonic + spread) / n).mean())

    def _quantile(self, *, strict: bool) -> int:
        low, high = 1, self.candidates
        while low < high:
            middle = (low + high) // 2
            reached = self.chance(middle)
            if reached > 0.5 + 1e-12 or (not strict and reached >= 0.5 - 1e-12):
                high = middle
            else:
                low = middle + 1
        return low


def hit_probability(
    places: NDArray[np.int64], wrong: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probability that one of `right` candidates, in random order with `wrong` others, takes one of `places`."""
    places, wrong, right = (np.asarray(x, dtype=np.int64) for x in (places, wrong, right))
    total = wrong + right
    # 1 - C(wrong, places) / C(total, places)
    inside = np.clip(places, 0, wrong)
    log_miss = _log_falling(wrong, inside) - _log_falling(total, inside)
    probability = -np.expm1(log_miss)
    probability = np.where(places > wrong, 1.0, probability)
    return np.where((places <= 0) | (right <= 0), 0.0, probability)


def _log_falling(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """log n! / (n - k)!"""
    log_factorial = [torch.lgamma(torch.from_numpy(x + 1.0)) for x in (n, n - k)]
    return (log_factorial[0] - log_factorial[1]).numpy()


def fold(encoding: Encoding) -> tuple[Encoding, Tensor]:
    """Present rows with their group axes folded in, and for each the row [M] of the data that it belongs to."""
    groups = len(encoding.axes) - 1
    folded = encoding.map(lambda t: t.reshape(-1, *t.shape[1 + groups :]))
    members = len(folded) // max(1, len(encoding))
    first = next(iter(folded.outputs.values()))
    owner = torch.arange(len(encoding), device=first[0].device).repeat_interleave(members)
    flat = Encoding(folded.outputs, ("sample",), None)
    if folded.present is None:
        return flat, owner
    return flat.rows(folded.present), owner[folded.present]


def codes(column: Any, device: Any) -> Tensor:
    """Equal values of a column as equal integers [N]; absent ones (None, NaN, `ABSENT`) differ from all."""
    values = column.reshape(len(column), -1).tolist() if isinstance(column, torch.Tensor) else list(column)
    seen: dict[Any, int] = {}
    numbers = []
    for index, value in enumerate(values):
        value = tuple(value) if isinstance(value, list) else value
        absent = value is None or (isinstance(value, tuple) and all(v != v or v == ABSENT for v in value))
        numbers.append(-1 - index if absent else seen.setdefault(value, len(seen)))
    return torch.tensor(numbers, dtype=torch.int64, device=device)


def score_rows(score: Any, queries: Encoding, candidates: Encoding, *, swap: bool) -> Iterator[tuple[int, Tensor]]:
    """Blocks of the matrix of scores: (first query, [b, M]); at most `CELLS` scores exist at a time.

    `swap`: the queries are the score's second argument.
    """
    count, found = len(queries), len(candidates)
    rows = max(1, min(count, CELLS // max(1, found)))
    cells = TOKEN_CELLS if any(isinstance(output, Tokens) for output in queries.outputs.values()) else CELLS
    columns = max(1, cells // rows)
    for start in range(0, count, rows):
        block = queries.rows(slice(start, start + rows))
        tiles = []
        for left in range(0, found, columns):
            tile = candidates.rows(slice(left, left + columns))
            tiles.append(_tile(score, block, tile, swap=swap))
        yield start, torch.cat(tiles, dim=1)


def _tile(score: Any, queries: Encoding, candidates: Encoding, *, swap: bool) -> Tensor:
    blocks = score.blocks(candidates, queries) if swap else score.blocks(queries, candidates)
    if isinstance(blocks, tuple):
        return blocks[1] if swap else blocks[0]
    return blocks.T if swap else blocks


@torch.no_grad()
def rank(
    blocks: Iterator[tuple[int, Tensor]],
    right: Callable[[int, int], Tensor],
    candidates: int,
    *,
    precision: bool = False,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Ranks:
    """Ranks of every query that has a right answer.

    `blocks` gives (first query, scores [b, M]); `right(start, b)` says which candidates are right, bool [b, M];
    `watch(start, scores, right)` may look at each block. Raises `ValueError` where a score is not finite.
    """
    parts: list[list[Tensor]] = []
    precisions: list[Tensor] = []
    for start, scores in blocks:
        if not torch.isfinite(scores).all():
            raise ValueError("a score is not finite: the embeddings or the score overflow")
        good = right(start, len(scores))
        counts = good.sum(1)
        best = scores.masked_fill(~good, -math.inf).amax(1, keepdim=True)
        slack = TIE * best.abs().clamp(1.0)
        above = (~good & (scores > best + slack)).sum(1)
        near = scores >= best - slack
        tied = (~good & near).sum(1) - above
        tied_right = (good & near).sum(1)
        answered = counts > 0
        places = torch.arange(start, start + len(scores), device=scores.device)
        parts.append([t[answered].cpu() for t in (above, tied, tied_right, counts, places)])
        if precision:
            precisions.append(_average_precision(scores[answered], good[answered]).cpu())
        if watch is not None:
            watch(start, scores, good)
    if not any(len(part[0]) for part in parts):
        raise ValueError("no query has a right answer among the candidates")
    above, tied, tied_right, counts, queries = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    precise = torch.cat(precisions).numpy() if precision else None
    return Ranks(above, tied, tied_right, counts, candidates, queries, precise)


def _average_precision(scores: Tensor, good: Tensor) -> Tensor:
    """Average precision [b], its mean over the orders of tied candidates (McSherry and Najork, 2008)."""
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    good = good.gather(1, order).double()
    length = scores.shape[1]
    place = torch.arange(length, device=scores.device).expand_as(ordered)
    slack = TIE * ordered[:, 1:].abs().clamp(1.0)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, :-1] - ordered[:, 1:] > slack
    first = torch.where(new, place, 0).cummax(1).values
    following = torch.cat([torch.where(new, place, length)[:, 1:], torch.full_like(place[:, :1], length)], dim=1)
    last = following.flip(1).cummin(1).values.flip(1)
    before = torch.cat([torch.zeros_like(good[:, :1]), good.cumsum(1)], dim=1)
    right_before = before.gather(1, first)
    right_here = before.gather(1, last) - right_before
    size = (last - first).double()
    share = right_here / size
    others = (place - first).double() * (right_here - 1) / (size - 1).clamp(min=1)
    at = share * (right_before + 1 + others) / (place + 1).double()
    return at.sum(1) / good.sum(1)
