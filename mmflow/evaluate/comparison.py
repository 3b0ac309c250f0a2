"""Which of two methods is better, and whether the difference is real: paired over items and seeds.

Methods are compared on the same items and the same seeds, each item score with its counterpart. A difference has
three sources of chance: other seeds would train other models, another sample would bring other items, and each model
errs in its own way on each item. The interval counts all three (two-way random effects), with Student's t at
Satterthwaite's degrees of freedom (Satterthwaite, 1946), so that it holds its level with two seeds as with ten.
Resampling three seeds does not: it knows two thirds of their variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Difference:
    """Mean of a - b with its standard error, degrees of freedom and two-sided p-value for "no difference".

    `error` and `freedom` are NaN and `p` is 1 where there is nothing to learn them from: one seed of a number that is
    no mean over items. With one seed the difference holds for these trained models, not for the methods.
    """

    mean: float
    error: float
    freedom: float
    p: float
    seeds: int
    items: int

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Where the true difference lies with probability `level`; None where that cannot be told."""
        if math.isnan(self.error):
            return None
        half = _t_quantile(self.freedom, (1 + level) / 2) * self.error
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Comparison:
    """A difference among several: `p` after Holm's correction, `interval` at the level of its step of it.

    `real` is whether the corrected p is at most 0.05; exactly then the interval leaves out 0.
    """

    first: str
    second: str
    difference: Difference
    p: float
    interval: tuple[float, float] | None
    real: bool


def paired_difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None) -> Difference:
    """The difference of two methods from item scores a, b [seeds, items]; row s of both had the same seed.

    A number that is no mean over items (a median rank, a clustering score) has one column. `groups` [items] names the
    sample that an item belongs to, where several items are of one (captions of an image): the samples are independent,
    their items are not. Raises `ValueError` for shapes that differ and scores that are not finite.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or not x.size:
        raise ValueError(f"item scores are [seeds, items] for both methods, not {list(x.shape)} and {list(y.shape)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("an item score is not finite: leave the item out of both methods")
    difference = x - y
    if groups is not None:
        difference = _group_sums(difference, np.asarray(groups))
    mean = float(difference.mean())
    error, freedom = _error_of_mean(difference)
    seeds, items = difference.shape
    return Difference(mean, error, freedom, _p_value(mean, error, freedom), seeds, items)


def compare_all(
    scores: Mapping[str, ArrayLike], groups: ArrayLike | None = None, *, against: str | None = None
) -> list[Comparison]:
    """Compare every pair of methods, or each with the method `against`, and correct for how many were compared.

    `scores` maps names to item scores [seeds, items]; the order of the mapping is that of the pairs.
    """
    names = list(scores)
    if against is not None and against not in scores:
        raise ValueError(f"no method is named {against!r} (there are {', '.join(names)})")
    pairs = list(combinations(names, 2)) if against is None else [(n, against) for n in names if n != against]
    return corrected({(a, b): paired_difference(scores[a], scores[b], groups) for a, b in pairs})


def corrected(differences: Mapping[tuple[str, str], Difference]) -> list[Comparison]:
    """Differences of pairs of methods, corrected for how many were compared: those of which nothing can be told (no
    error) do not count."""
    told = {pair: one for pair, one in differences.items() if not math.isnan(one.error)}
    p_values, levels = holm([one.p for one in told.values()])
    by_pair = dict(zip(told, zip(p_values, levels, strict=True), strict=True))
    found = []
    for (first, second), one in differences.items():
        p, level = by_pair.get((first, second), (1.0, 1.0))
        found.append(Comparison(first, second, one, p, one.interval(1 - level), p <= 0.05))
    return found


def mean_interval(
    scores: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.95
) -> tuple[float, float] | None:
    """Where the mean of a method's item scores [seeds, items] lies over other seeds and items; None for one number.

    Scores from 0 to 1 have the score interval of Wilson (1927) with the effective number of items, so that it stays
    inside; others Student's t. `groups` are those of `paired_difference`.
    """
    x = np.asarray(scores, dtype=np.float64)
    share = x.shape[1] > 1 and bool(((x >= 0) & (x <= 1)).all())
    x = x if groups is None else _group_sums(x, np.asarray(groups))
    mean, (error, freedom) = float(x.mean()), _error_of_mean(x)
    if math.isnan(error):
        return None
    quantile = _t_quantile(freedom, (1 + level) / 2)
    if not share:
        return mean - quantile * error, mean + quantile * error
    mean = min(1.0, max(0.0, mean))
    if error == 0 and 0 < mean < 1:
        return mean, mean
    count = mean * (1 - mean) / error**2 if error > 0 and 0 < mean < 1 else float(x.shape[1])
    quantile = quantile if 0 < mean < 1 else _t_quantile(math.inf, (1 + level) / 2)
    square = quantile**2 / count
    half = math.sqrt(mean * (1 - mean) * square + square**2 / 4)
    low, high = (mean + square / 2 - half) / (1 + square), (mean + square / 2 + half) / (1 + square)
    return max(0.0, min(low, mean)), min(1.0, max(high, mean))


def holm(p_values: Sequence[float], alpha: float = 0.05) -> tuple[list[float], list[float]]:
    """Holm's (1979) corrected p-values, and the level that each is tested at: alpha / (m - rank).

    The chance that any true "no difference" is called real stays at most `alpha`. From the first p-value on that is
    not small enough, later ones are tested at its level, as the procedure stops there.
    """
    count = len(p_values)
    order = sorted(range(count), key=lambda i: p_values[i])
    corrected, levels = [1.0] * count, [alpha] * count
    largest, stopped = 0.0, 0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[at]))
        corrected[at] = largest
        levels[at] = alpha / (count - stopped)
        if largest <= alpha:
            stopped = rank + 1
    return corrected, levels


def _error_of_mean(d: NDArray[np.float64]) -> tuple[float, float]:
    """Standard error of the mean of [seeds, items] and its degrees of freedom.

    With mean squares of seeds, items and the rest, E[seeds] + E[items] - E[rest] is seeds * items times the variance.
    The part of the items is left out where it is below the rest; that of the seeds is never replaced by the rest: it
    would make few seeds look like many.
    """
    seeds, items = d.shape
    mean, by_seed, by_item = d.mean(), d.mean(1), d.mean(0)
    if seeds == 1 and items == 1:
        return math.nan, math.nan
    if seeds == 1:
        return math.sqrt(float(by_item.var(ddof=1)) / items), items - 1.0
    of_seeds = items * float(by_seed.var(ddof=1))
    if items == 1:
        return math.sqrt(of_seeds / seeds), seeds - 1.0
    of_items = seeds * float(by_item.var(ddof=1))
    rest_freedom = (seeds - 1) * (items - 1)
    rest = float(((d - by_seed[:, None] - by_item[None] + mean) ** 2).sum()) / rest_freedom
    more = max(of_items - rest, 0.0)
    total = of_seeds + more
    if total == 0:
        return 0.0, seeds - 1.0
    # Two seeds that agree by chance would seem to weigh nothing and t to have the items' degrees of freedom: their part
    # is expected to be at least the rest, and a quarter of it holds the level from two seeds on.
    weight = max(of_seeds, rest / 4)
    scatter = weight**2 / (seeds - 1)
    if more > 0:
        scatter += of_items**2 / (items - 1) + rest**2 / rest_freedom
    return math.sqrt(total / (seeds * items)), max((weight + more) ** 2 / scatter, seeds - 1.0)


def _group_sums(d: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the items of a group, scaled so that the mean over groups is the mean over items."""
    if groups.shape != d.shape[1:]:
        raise ValueError(f"{d.shape[1]} items have {len(groups)} groups")
    names, member_of = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(member_of, weights=row) for row in d])
    return sums * (len(names) / d.shape[1])


def _p_value(mean: float, error: float, freedom: float) -> float:
    from scipy.special import stdtr

    if math.isnan(error):
        return 1.0
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(mean) / error))


def _t_quantile(freedom: float, probability: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
