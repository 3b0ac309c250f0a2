"""Measures of an order of candidates; ties count by expectation over their orders.

`scores` float [Q, C]; `gains` [Q, C], bool or numbers from 0 (not relevant) on; minus infinity as a score leaves a
candidate out (the query itself) and it must have no gain. Each returns one number a query, [Q], NaN for a query
without a relevant candidate. Constant scores give the expectation over random orders, which is what guessing gives
(`chance`). Scores closer than 1e-6 (relative above 1) are tied. Raises `ValueError` for NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Measure = Callable[["Order"], NDArray[np.float64]]

TIE = 1e-6


@dataclass(frozen=True)
class Order:
    """Candidates by falling score, with groups of ties: all [Q, C].

    `gains` in that order; `first` and `size` are the place (from 0) of the first of each candidate's tied group and
    its size; `here` is False for candidates that were left out, which come last.
    """

    gains: NDArray[np.float64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    here: NDArray[np.bool_]

    @property
    def relevant(self) -> NDArray[np.float64]:
        """How many candidates [Q] are relevant."""
        return (self.gains > 0).sum(1).astype(np.float64)

    def mean_in_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean [Q, C] of `values` [Q, C] over the tied group of each candidate."""
        total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        ends = np.take_along_axis(total, self.first + self.size, axis=1)
        return (ends - np.take_along_axis(total, self.first, axis=1)) / self.size

    def before_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum [Q, C] of `values` [Q, C] over the candidates above the tied group of each candidate."""
        total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        return np.take_along_axis(total, self.first, axis=1)


def order_of(scores: ArrayLike, gains: ArrayLike) -> Order:
    """Sort the candidates of every query."""
    s, g = np.asarray(scores, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    if s.ndim != 2 or s.shape != g.shape:
        raise ValueError(f"scores {list(s.shape)} and gains {list(g.shape)} are not both [Q, C]")
    if np.isnan(s).any() or np.isposinf(s).any():
        raise ValueError("a score is not finite: the embeddings or the score overflow")
    if not (g >= 0).all() or (g[np.isneginf(s)] > 0).any():
        raise ValueError("gains are numbers from 0 on, and 0 for candidates that are left out")
    order = np.argsort(-s, axis=1, kind="stable")
    ordered = np.take_along_axis(s, order, axis=1)
    here = np.isfinite(ordered)
    filled = np.where(here, ordered, 0.0)
    new = np.ones(s.shape, bool)
    near = filled[:, :-1] - filled[:, 1:] <= TIE * np.maximum(1.0, np.abs(filled[:, 1:]))
    new[:, 1:] = ~(near & here[:, 1:] & here[:, :-1])
    places = np.broadcast_to(np.arange(s.shape[1]), s.shape)
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.concatenate([np.where(new, places, s.shape[1])[:, 1:], np.full((len(s), 1), s.shape[1])], axis=1)
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return Order(np.take_along_axis(g, order, axis=1), first, last - first, here)


def chance(measure: Measure, order: Order) -> NDArray[np.float64]:
    """The measure of a random order of the same candidates, [Q]."""
    count = order.here.sum(1, keepdims=True)
    first = np.where(order.here, 0, order.first)
    return measure(Order(order.gains, first, np.where(order.here, count, order.size), order.here))


def ndcg(order: Order, k: int | None = None) -> NDArray[np.float64]:
    """Discounted gain of the first `k` (all without it) over that of the best order (Jarvelin and Kekalainen, 2002).

    Gains count as they are, discounted by log2(place + 1); tied candidates have the mean gain of their group (McSherry
    and Najork, 2008). The best order is that of all candidates, not only of those found.
    """
    length = order.gains.shape[1]
    discount = np.where(np.arange(length) < (length if k is None else k), 1 / np.log2(np.arange(length) + 2.0), 0.0)
    best = (np.sort(order.gains, axis=1)[:, ::-1] * discount).sum(1)
    return _over((order.mean_in_group(order.gains) * discount).sum(1), best)


def precision_at(order: Order, k: int) -> NDArray[np.float64]:
    """Share of relevant candidates among the first `k`; NaN where there are fewer candidates."""
    enough = order.here.sum(1) >= k
    found = _hits_above(order, np.full(len(order.gains), k)) / k
    return np.where(enough & (order.relevant > 0), found, np.nan)


def recall_at(order: Order, k: int) -> NDArray[np.float64]:
    """Share of the relevant candidates that are among the first `k` (not whether one of them is)."""
    return _over(_hits_above(order, np.full(len(order.gains), k)), order.relevant)


def r_precision(order: Order) -> NDArray[np.float64]:
    """Share of relevant candidates among the first R, for R relevant ones."""
    return _over(_hits_above(order, order.relevant.astype(np.int64)), order.relevant)


def average_precision(order: Order) -> NDArray[np.float64]:
    """Mean of the precision at each relevant candidate."""
    return _over(_precisions(order).sum(1), order.relevant)


def map_at_r(order: Order) -> NDArray[np.float64]:
    """Precision at each relevant candidate among the first R, over R (Musgrave et al., 2020)."""
    within = np.arange(order.gains.shape[1]) < order.relevant[:, None]
    return _over((_precisions(order) * within).sum(1), order.relevant)


def reciprocal_rank(order: Order) -> NDArray[np.float64]:
    """One over the place of the first relevant candidate; in a tied group its mean over the group's orders."""
    good = (order.gains > 0).astype(np.float64)
    share = order.mean_in_group(good)
    first_group = (order.before_group(good) == 0) & (share > 0)
    inside = np.arange(good.shape[1]) - order.first
    right = np.rint(share * order.size)
    # The first relevant one stands at `inside` of the group: none before it, and one of the rest here.
    place = _none_before(order.size, right, inside) * right / np.maximum(order.size - inside, 1)
    value = np.where(first_group, place / (np.arange(good.shape[1]) + 1), 0.0).sum(1)
    return np.where(order.relevant > 0, value, np.nan)


def reranked(first: NDArray[np.float64], second: NDArray[np.float64], top: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores [Q, C] that put the candidates at `top` [Q, K] first, in the order of `second` [Q, K], then the others in
    the order of `first` [Q, C]."""
    scores = -np.argsort(np.argsort(-first, axis=1, kind="stable"), axis=1).astype(np.float64) - 1
    distinct = np.sort(second, axis=1)
    slack = TIE * np.maximum(1.0, np.abs(distinct[:, 1:]))
    steps = np.concatenate([np.zeros((len(second), 1)), np.cumsum(np.diff(distinct, axis=1) > slack, axis=1)], axis=1)
    level = np.take_along_axis(steps, np.argsort(np.argsort(second, axis=1), axis=1), axis=1)
    np.put_along_axis(scores, top, level, axis=1)
    return scores


def shared_labels(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """How many labels [Q, C] the rows of two multi-hot arrays, [Q, K] and [C, K], share: a graded relevance."""
    x, y = (np.asarray(v, dtype=np.int64) for v in (a, b))
    return x @ y.T


def within_hamming(a: ArrayLike, b: ArrayLike, distance: int) -> NDArray[np.bool_]:
    """Whether [Q, C] two multi-hot rows differ in at most `distance` labels: a plausible match (Chun et al., 2021)."""
    x, y = (np.asarray(v, dtype=np.int64) for v in (a, b))
    return x @ (1 - y).T + (1 - x) @ y.T <= distance


def _precisions(order: Order) -> NDArray[np.float64]:
    """Expected precision [Q, C] at each place, where a relevant candidate stands there (0 where none can)."""
    good = (order.gains > 0).astype(np.float64)
    share = order.mean_in_group(good)
    inside = np.arange(good.shape[1]) - order.first
    others = inside * (share * order.size - 1) / np.maximum(order.size - 1, 1)
    return share * (order.before_group(good) + 1 + others) / (np.arange(good.shape[1]) + 1)


def _hits_above(order: Order, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected relevant candidates [Q] among the first `k` [Q]."""
    within = np.arange(order.gains.shape[1]) < k[:, None]
    return (order.mean_in_group((order.gains > 0).astype(np.float64)) * within).sum(1)


def _none_before(size: NDArray[np.int64], right: NDArray[np.float64], inside: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability that none of `right` relevant candidates in a group of `size` is among its first `inside`."""
    from scipy.special import gammaln

    wrong = size - right
    possible = inside <= wrong
    places = np.where(possible, inside, 0)
    log = gammaln(wrong + 1) - gammaln(wrong - places + 1) - gammaln(size + 1) + gammaln(size - places + 1)
    return np.where(possible, np.exp(log), 0.0)


def _over(total: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(by > 0, total / np.where(by > 0, by, 1.0), np.nan)
