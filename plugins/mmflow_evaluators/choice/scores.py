"""Right choices from scores of candidates; ties count by expectation, so that equal scores are exactly at chance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TIE = 1e-6
"""Scores closer than this (relative above 1) count as equal."""


def choice_hits(
    scores: ArrayLike, right: ArrayLike, present: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability [N] that the best-scored candidate is right, and what a random choice gives, [N].

    `scores` [N, C]; `right` bool [N, C] (several may be) or the place of the right one, int [N]; `present` bool
    [N, C]. Of candidates tied for the best, each is chosen with equal probability. NaN in both results for a row
    that has no right candidate, or fewer than two, or none that is wrong: there is nothing to choose.
    Raises `ValueError` where the score of a present candidate is NaN or infinite.
    """
    s = np.asarray(scores, dtype=np.float64)
    here = np.ones(s.shape, bool) if present is None else np.asarray(present, dtype=bool)
    if s.ndim != 2 or here.shape != s.shape:
        raise ValueError(f"scores are [N, C], not {list(s.shape)} with presence {list(here.shape)}")
    if not np.isfinite(s[here]).all():
        raise ValueError("a score is not finite: the embeddings or the score overflow")
    good = _marked(np.asarray(right), s.shape) & here
    masked = np.where(here, s, -np.inf)
    best = masked.max(1, keepdims=True, initial=-np.inf)
    slack = TIE * np.maximum(1.0, np.abs(np.where(np.isfinite(best), best, 1.0)))
    tied = here & (masked >= best - slack)
    count, count_right = here.sum(1), good.sum(1)
    asked = (count_right > 0) & (count_right < count)
    hits = (tied & good).sum(1) / np.maximum(tied.sum(1), 1)
    chance = count_right / np.maximum(count, 1)
    return np.where(asked, hits, np.nan), np.where(asked, chance, np.nan)


def top_hits(scores: ArrayLike, right: ArrayLike, k: int) -> NDArray[np.float64]:
    """Probability [N] that a right candidate is among the first `k`; 0 for a row without one.

    `scores` [N, C], `right` bool [N, C]. Candidates tied with the best right one stand in random order.
    """
    from scipy.special import gammaln

    s, good = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    if not np.isfinite(s).all():
        raise ValueError("a score is not finite: the embeddings or the score overflow")
    best = np.where(good, s, -np.inf).max(1, keepdims=True, initial=-np.inf)
    slack = TIE * np.maximum(1.0, np.abs(np.where(np.isfinite(best), best, 1.0)))
    above = (~good & (s > best + slack)).sum(1)
    near = (s >= best - slack) & (s <= best + slack)
    wrong, tied_right = (near & ~good).sum(1), (near & good).sum(1)
    places = k - above
    # None of the right ones takes a place: C(wrong, places) / C(wrong + right, places).
    inside = np.clip(places, 0, wrong)
    total = wrong + tied_right
    log = gammaln(wrong + 1) - gammaln(wrong - inside + 1) - gammaln(total + 1) + gammaln(total - inside + 1)
    hit = np.where(places > wrong, 1.0, -np.expm1(log))
    return np.where((places <= 0) | ~good.any(1), 0.0, hit)


def mean_rank(scores: ArrayLike, right: ArrayLike, present: ArrayLike | None = None) -> NDArray[np.float64]:
    """Expected place [N], from 1, of the best right candidate; NaN for a row without one."""
    s = np.asarray(scores, dtype=np.float64)
    here = np.ones(s.shape, bool) if present is None else np.asarray(present, dtype=bool)
    good = _marked(np.asarray(right), s.shape) & here
    best = np.where(good, s, -np.inf).max(1, keepdims=True, initial=-np.inf)
    slack = TIE * np.maximum(1.0, np.abs(np.where(np.isfinite(best), best, 1.0)))
    above = (here & ~good & (s > best + slack)).sum(1)
    near = here & (s >= best - slack) & (s <= best + slack)
    place = above + 1 + (near & ~good).sum(1) / ((near & good).sum(1) + 1)
    return np.where(good.any(1), place, np.nan)


@dataclass(frozen=True)
class MatchingHits:
    """Probabilities [N] of a right answer: `forward` (each of the first side finds its partner), `backward`, `both`."""

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    both: NDArray[np.float64]


FORWARD_CHANCE = BACKWARD_CHANCE = 1 / 4
BOTH_CHANCE = 1 / 6
"""The chance levels of four scores in random order."""


def matching_hits(scores: ArrayLike) -> MatchingHits:
    """Two pairs to match in each row: `scores` [N, 2, 2] of (first side, second side) (Thrush et al., 2022).

    With images first and texts second, `forward` is their text score (for each image the right text scores higher),
    `backward` their image score and `both` their group score. Tied scores stand in random order: the mean over all
    orders of the four is exact. Raises `ValueError` for other shapes and scores that are not finite.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 3 or s.shape[1:] != (2, 2):
        raise ValueError(f"two pairs to match have scores [N, 2, 2], not {list(s.shape)}")
    if not np.isfinite(s).all():
        raise ValueError("a score is not finite: the embeddings or the score overflow")
    level = _levels(s.reshape(-1, 4))
    found = [np.zeros(len(s)) for _ in range(3)]
    orders = list(permutations(range(4)))
    for order in orders:
        a, b, c, d = (level * 4 + np.array(order)).T
        forward, backward = (a > b) & (d > c), (a > c) & (d > b)
        for total, right in zip(found, (forward, backward, forward & backward), strict=True):
            total += right
    return MatchingHits(*(total / len(orders) for total in found))


def all_right(hits: NDArray[np.float64], groups: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probability [G] that every row of a group is right, and the first row of each group, in order.

    `groups` [N]; rows whose hit is NaN are left out, and groups of nothing else with them.
    """
    asked = np.flatnonzero(~np.isnan(hits))
    _, first, member_of = np.unique(np.asarray(groups)[asked], return_index=True, return_inverse=True)
    together = np.ones(len(first))
    np.multiply.at(together, member_of, hits[asked])
    order = np.argsort(first)
    return together[order], asked[first[order]].astype(np.int64)


def _marked(right: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if right.ndim == 1 and len(right) == shape[0]:
        return np.arange(shape[1])[None] == right[:, None]
    if right.shape != shape:
        raise ValueError(f"right answers have the shape {list(right.shape)} for scores {list(shape)}")
    return right.astype(bool)


def _levels(s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scores [N, K] as integers in the same order; neighbors in that order that are tied are equal."""
    order = np.argsort(s, axis=1, kind="stable")
    ordered = np.take_along_axis(s, order, axis=1)
    steps = np.diff(ordered, axis=1) > TIE * np.maximum(1.0, np.abs(ordered[:, 1:]))
    ranked = np.concatenate([np.zeros((len(s), 1)), np.cumsum(steps, axis=1)], axis=1)
    level = np.empty(s.shape, np.int64)
    np.put_along_axis(level, order, ranked.astype(np.int64), axis=1)
    return level
