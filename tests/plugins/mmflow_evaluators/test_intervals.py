"""Intervals hold what they promise: they cover the truth in 93 to 97 of 100 cases and stay inside the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from mmflow_evaluators.intervals import Interval, bootstrap_interval, resampled, score_interval, share_interval
from scipy import stats

pytestmark = pytest.mark.slow

CASES = 1000
Case = Callable[[np.random.Generator, int], tuple[Interval | None, float]]


def answers(rng: np.random.Generator, _: int) -> tuple[Interval | None, float]:
    truth = rng.uniform(0.02, 0.98)
    return share_interval(rng.random(rng.integers(50, 500)) < truth), truth


def answers_near_the_ends(rng: np.random.Generator, case: int) -> tuple[Interval | None, float]:
    truth = rng.uniform(0.02, 0.1)
    truth = truth if case % 2 else 1 - truth
    return share_interval(rng.random(rng.integers(50, 500)) < truth), truth


def captions_of_images(rng: np.random.Generator, _: int) -> tuple[Interval | None, float]:
    """Five answers a sample that go together: resampled by sample and not by query."""
    truth, count, alike = rng.uniform(0.02, 0.98), int(rng.integers(50, 200)), rng.uniform(0.05, 0.6)
    scale = (1 - alike) / alike
    of_sample = rng.beta(truth * scale, (1 - truth) * scale, count)
    samples = np.repeat(np.arange(count), 5)
    return share_interval(rng.random(len(samples)) < of_sample[samples], samples), truth


def overlaps(rng: np.random.Generator, _: int) -> tuple[Interval | None, float]:
    truth, scale = rng.uniform(0.02, 0.98), rng.uniform(1, 10)
    return share_interval(rng.beta(truth * scale, (1 - truth) * scale, rng.integers(50, 300))), truth


def f1(rng: np.random.Generator, case: int) -> tuple[Interval | None, float]:
    count, share = int(rng.integers(60, 300)), rng.uniform(0.2, 0.6)
    hit, false = rng.uniform(0.3, 0.97), rng.uniform(0.02, 0.3)
    true = rng.random(count) < share
    found = np.where(true, rng.random(count) < hit, rng.random(count) < false)

    def statistic(index: np.ndarray) -> float:
        a, b = true[index], found[index]
        return 2 * float((a & b).sum()) / float(a.sum() + b.sum() or np.nan)

    expected = 2 * share * hit / (share + share * hit + (1 - share) * false)
    return bootstrap_interval(statistic, count, at=("f1", case), draws=200), expected


def correlation(rng: np.random.Generator, case: int) -> tuple[Interval | None, float]:
    truth, count = rng.uniform(-0.95, 0.95), int(rng.integers(50, 200))
    x = rng.normal(size=count)
    y = truth * x + math.sqrt(1 - truth**2) * rng.normal(size=count)
    found = bootstrap_interval(
        lambda i: float(np.corrcoef(x[i], y[i])[0, 1]), count, at=("r", case), bounds=(-1, 1), draws=100
    )
    return found, truth


def median(rng: np.random.Generator, case: int) -> tuple[Interval | None, float]:
    x = rng.exponential(size=rng.integers(50, 200))
    found = bootstrap_interval(lambda i: float(np.median(x[i])), len(x), at=("median", case), bounds=None, draws=200)
    return found, math.log(2)


@pytest.mark.parametrize(
    "case", [answers, answers_near_the_ends, captions_of_images, overlaps, f1, correlation, median],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_95_percent_intervals_cover_the_truth_in_93_to_97_of_100_cases(case: Case):
    rng = np.random.default_rng(0)
    covered = 0
    for number in range(CASES):
        interval, truth = case(rng, number)
        assert interval is not None
        if case not in (median, correlation):
            assert 0 <= interval.low <= interval.high <= 1
        covered += truth in interval
    assert 0.93 * CASES <= covered <= 0.97 * CASES


def test_captions_taken_as_independent_would_cover_too_little():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        samples = np.repeat(np.arange(60), 5)
        right = rng.random(300) < rng.beta(0.5, 0.5, 60)[samples]
        covered += 0.5 in share_interval(right)
    assert covered < 0.8 * 500


def test_a_share_of_right_answers_has_wilsons_interval():
    for right, count in ((0, 50), (1, 50), (25, 50), (49, 50), (50, 50), (3, 7)):
        ours = share_interval(np.arange(count) < right)
        truth = stats.binomtest(right, count).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((truth.low, truth.high))


def test_near_an_end_the_side_away_from_it_is_longer():
    interval = share_interval([0.0] * 98 + [1.0, 1.0])
    assert interval.high - 0.02 > 2 * (0.02 - interval.low)
    high = bootstrap_interval(lambda i: float((i > 1).mean()), 100, at=("ends",))
    assert high is not None
    assert 0.98 - high.low > 2 * (high.high - 0.98)
    assert high.high <= 1


def test_a_perfect_score_is_not_certain():
    perfect = bootstrap_interval(lambda i: 1.0, 50, at=("all right",))
    assert perfect is not None
    assert (perfect.low, perfect.high) == pytest.approx((share_interval(np.ones(50)).low, 1.0))
    assert share_interval([1.0]).low == pytest.approx(stats.binomtest(1, 1).proportion_ci(method="wilson").low)


def test_items_without_spread_have_none():
    assert share_interval(np.full(20, 0.25)) == Interval(0.25, 0.25)


def test_groups_of_one_item_are_items_and_groups_can_be_unequal():
    values = np.random.default_rng(0).random(60)
    assert share_interval(values, np.arange(60)) == share_interval(values)
    groups = np.r_[np.zeros(30), np.arange(1, 31)]
    values[:30] = 0.9
    assert share_interval(values, groups).half > 2 * share_interval(values).half


def test_draws_depend_on_their_address_alone():
    first, second = (resampled(20, 3, at=("a", 1)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any((a != b).any() for a, b in zip(first, resampled(20, 3, at=("a", 2)), strict=True))
    groups = np.array([5, 5, 7, 9, 9, 9])
    for index in resampled(6, 20, at=("groups",), groups=groups):
        counts = np.bincount(index, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]


def test_what_cannot_be_told_is_not_told():
    assert bootstrap_interval(lambda i: 1.0, 1, at=()) is None
    assert bootstrap_interval(lambda i: math.nan, 10, at=()) is None
    # One item in a hundred has the class: two of three draws have it, one of three does not.
    assert bootstrap_interval(lambda i: 0.5 if (i == 0).any() else math.nan, 100, at=()) is not None
    assert (
        bootstrap_interval(lambda i: 0.5 if (i == 0).sum() > 1 or (i == np.arange(100)).all() else math.nan, 100, at=())
        is None
    )
    with pytest.raises(ValueError, match="at least one"):
        share_interval([])
    for bad in ([math.nan], [1.5], [-0.1]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            share_interval(bad)
    with pytest.raises(ValueError, match="2 values have 3 groups"):
        share_interval([0, 1], [0, 1, 2])
    assert score_interval(0.0, 0.0, 10, bounds=(-1, 1)) == Interval(0.0, 0.0)
