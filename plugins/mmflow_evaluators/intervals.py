"""95 % intervals of measured numbers: one mechanism for shares, for other bounded numbers and for unbounded ones.

A number with bounds gets the score interval of Wilson (1927) with the effective number of items, the share's own
variance divided by the square of its standard error (Franco et al., 2019, on shares from clustered samples). The
interval lies inside the bounds, is longer on the side away from the nearer one, and is not empty at a bound. The
standard error is exact for independent right and wrong answers, that of a ratio of sums where items belong to groups
(five captions of one image are one sample, not five), and that of a bootstrap for every other statistic.
Numbers without bounds get the percentiles of the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmflow.plugin import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""Share of cases in which an interval covers the truth."""
DRAWS = 400
"""Draws of a bootstrap where it gives a standard error or, for numbers without bounds, percentiles."""

_NORMAL = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both inside."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def share_interval(values: ArrayLike, groups: ArrayLike | None = None) -> Interval:
    """Interval of the mean of `values` [N] in [0, 1]: right answers, probabilities of a hit, overlaps.

    `groups` [N] (any hashable numbers) names the sample that each item belongs to; without it items are independent.
    Raises `ValueError` for no values, NaN and values outside [0, 1].
    """
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(x):
        raise ValueError("an interval needs at least one item")
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError("a share is the mean of values from 0 to 1")
    binary = bool(((x == 0) | (x == 1)).all())
    sums, sizes = _by_group(x, np.arange(len(x)) if groups is None else np.asarray(groups).reshape(-1))
    count = len(sums)
    if binary and count == len(x):
        return score_interval(float(x.mean()), None, count)
    mean = float(sums.sum() / sizes.sum())
    if count < 2:
        return score_interval(mean, None, count)
    residuals = sums - mean * sizes
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(sizes.sum())
    if binary:
        # Right and wrong answers cannot be known better than from as many independent ones.
        error = max(error, math.sqrt(mean * (1 - mean) / len(x)))
    return score_interval(mean, error, count)


def score_interval(
    value: float, error: float | None, items: int, *, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Wilson's interval of a number in `bounds` with the standard error `error`, estimated from `items` items.

    Without `error` the number is a share of `items` independent items. At a bound, where no error can be estimated,
    it is that of so many right (or wrong) answers.
    """
    low, high = bounds
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    quantile = _NORMAL
    if error is None or share in (0.0, 1.0):
        count = float(items)
    elif error == 0:
        return Interval(value, value)
    else:
        count = share * (1 - share) / (error / (high - low)) ** 2
        quantile = _t_quantile(items - 1)
    square = quantile * quantile / count
    center = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    # Rounding must not push an end past the number itself.
    ends = max(0.0, min(center - half, share)), min(1.0, max(center + half, share))
    return Interval(low + ends[0] * (high - low), low + ends[1] * (high - low))


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    *,
    at: Sequence[int | str],
    bounds: tuple[float, float] | None = (0.0, 1.0),
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
) -> Interval | None:
    """Interval of `statistic(index)`, a number made of the items at `index` int64 [items] (with repetitions).

    Draws stand at the address `at`, so that equal items give equal intervals. With `groups` [items] whole groups are
    drawn. Draws for which the statistic is NaN (a class that was not drawn) do not count; None where fewer than half
    are left, or the statistic of all items is NaN. `bounds` None: percentiles of the draws.
    """
    if items < 2:
        return None
    value = float(statistic(np.arange(items)))
    if math.isnan(value):
        return None
    drawn = [float(statistic(index)) for index in resampled(items, draws, at=at, groups=groups)]
    known = np.array([number for number in drawn if not math.isnan(number)])
    if len(known) < max(2, draws / 2):
        return None
    if bounds is None:
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(known, [tail, 1 - tail])
        return Interval(min(float(low), value), max(float(high), value))
    count = items if groups is None else len(np.unique(np.asarray(groups)))
    return score_interval(value, float(known.std(ddof=1)), count, bounds=bounds)


def jackknife_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    *,
    at: Sequence[int | str],
    bounds: tuple[float, float] = (0.0, 1.0),
    blocks: int = 20,
) -> Interval | None:
    """Interval of a number made of pairs of items, which repeated items of a bootstrap would falsify.

    The items, in a random order that depends on the address `at`, are cut into blocks, and the error is that of the
    numbers without one block each (Quenouille, 1956). None for fewer than two items in a block, or a NaN.
    """
    if items < 2 * blocks:
        return None
    order = numpy_generator("mmflow_evaluators.intervals", "jackknife", *at).permutation(items)
    parts = np.array_split(order, blocks)
    value = float(statistic(np.arange(items)))
    without = np.array([statistic(np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]]))) for k in range(blocks)])
    if math.isnan(value) or np.isnan(without).any():
        return None
    error = math.sqrt((blocks - 1) / blocks * float(((without - without.mean()) ** 2).sum()))
    return score_interval(value, error, blocks, bounds=bounds)


def resampled(
    items: int, draws: int, *, at: Sequence[int | str], groups: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """`draws` index arrays of a bootstrap, of items or of whole groups; they depend on the address `at` alone."""
    generator = numpy_generator("mmflow_evaluators.intervals", *at)
    if groups is None:
        return [generator.integers(items, size=items) for _ in range(draws)]
    _, member_of = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(member_of))[:-1])
    return [
        np.concatenate([members[group] for group in generator.integers(len(members), size=len(members))])
        for _ in range(draws)
    ]


def _by_group(values: NDArray[np.float64], groups: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values have {len(groups)} groups")
    _, member_of = np.unique(groups, return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(member_of, weights=values).astype(np.float64)
    return sums, np.bincount(member_of).astype(np.float64)


def _t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1, freedom), (1 + LEVEL) / 2))
