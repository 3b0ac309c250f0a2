"""Comparisons keep their level for equal methods and find planted differences with the power that theory gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmflow.evaluate.comparison import compare_all, holm, paired_difference

pytestmark = pytest.mark.slow


def scores(
    rng: np.random.Generator, seeds: int, items: int, *, by_seed: float = 0.0, by_item: float = 0.0, delta: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong answers of two methods on items of varying difficulty; a's mean is ahead by `delta` deviations."""
    difficulty = rng.normal(size=items)
    shift = delta + rng.normal(size=(seeds, 1)) * by_seed + rng.normal(size=items) * by_item
    a = difficulty + rng.normal(size=(seeds, items)) + shift / 2 > -0.7
    b = difficulty + rng.normal(size=(seeds, items)) - shift / 2 > -0.7
    return a.astype(float), b.astype(float)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 10])
@pytest.mark.parametrize(("by_seed", "by_item"), [(0, 0), (0, 1), (0.1, 0.5)])
def test_equal_methods_do_not_differ_in_93_to_97_of_100_comparisons(seeds: int, by_seed: float, by_item: float):
    # One seed tells nothing about other seeds, and is not asked to.
    by_seed = by_seed if seeds > 1 else 0.0
    rng = np.random.default_rng(2)
    equal = sum(
        paired_difference(*scores(rng, seeds, 200, by_seed=by_seed, by_item=by_item)).p > 0.05 for _ in range(1000)
    )
    assert 930 <= equal <= 970


def test_the_interval_covers_a_true_difference():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(1000):
        noise = rng.normal(size=(3, 1)) * 0.2 + rng.normal(size=(1, 60)) * 0.5 + rng.normal(size=(3, 60))
        low, high = paired_difference(0.4 + noise, np.zeros((3, 60))).interval() or (1.0, 0.0)
        covered += low <= 0.4 <= high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(("seeds", "by_seed"), [(1, 0.0), (3, 0.3), (8, 0.3)])
def test_a_planted_difference_is_found_with_the_power_of_the_t_test(seeds: int, by_seed: float):
    rng = np.random.default_rng(4)
    items, delta = 100, 0.35
    found = 0
    for _ in range(1000):
        d = delta + rng.normal(size=(seeds, 1)) * by_seed + rng.normal(size=(seeds, items))
        found += paired_difference(d, np.zeros_like(d)).p <= 0.05
    freedom = seeds - 1 if seeds > 1 else items - 1
    ahead = delta / np.sqrt(by_seed**2 / seeds + 1 / (seeds * items))
    limit = stats.t.ppf(0.975, freedom)
    power = 1 - stats.nct.cdf(limit, freedom, ahead) + stats.nct.cdf(-limit, freedom, ahead)
    assert found / 1000 == pytest.approx(power, abs=0.045)


def test_with_one_seed_it_is_the_paired_t_test():
    a, b = scores(np.random.default_rng(0), 1, 80, delta=0.4)
    ours = paired_difference(a, b)
    truth = stats.ttest_rel(a[0], b[0])
    assert ours.p == pytest.approx(truth.pvalue)
    assert ours.interval() == pytest.approx(tuple(truth.confidence_interval()))
    over_seeds = paired_difference([[1.0], [2.0], [4.0]], [[0.0], [1.5], [3.0]])
    assert over_seeds.p == pytest.approx(stats.ttest_rel([1, 2, 4], [0, 1.5, 3]).pvalue)


def test_items_of_one_sample_count_as_one():
    rng = np.random.default_rng(1)
    d = rng.normal(size=(2, 30))
    alone = paired_difference(d, np.zeros_like(d))
    fivefold = np.repeat(d, 5, axis=1)
    groups = np.repeat(np.arange(30), 5)
    together = paired_difference(fivefold, np.zeros_like(fivefold), groups)
    assert (together.mean, together.error, together.p) == pytest.approx((alone.mean, alone.error, alone.p))
    assert paired_difference(fivefold, np.zeros_like(fivefold)).error < alone.error or alone.freedom < 2


def test_nothing_to_compare_is_said():
    same = np.ones((3, 4))
    assert paired_difference(same, same).p == 1.0
    assert paired_difference([[1.0]], [[0.0]]).interval() is None
    assert paired_difference([[1.0]], [[0.0]]).p == 1.0
    with pytest.raises(ValueError, match="not finite"):
        paired_difference([[np.nan, 1.0]], [[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"not \[1, 2\] and \[2, 2\]"):
        paired_difference([[0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])


def test_holm_against_the_worked_procedure():
    corrected, levels = holm([0.01, 0.04, 0.03, 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert holm([]) == ([], [])
    for p_values in np.random.default_rng(0).random((50, 5)) ** 3:
        corrected, levels = holm(p_values.tolist())
        for p, adjusted, level in zip(p_values, corrected, levels, strict=True):
            assert (p <= level) == (adjusted <= 0.05)


def test_of_three_equal_methods_none_is_called_better_in_95_of_100_matrices():
    rng = np.random.default_rng(5)
    wrong, runs = 0, {}
    for _ in range(1000):
        difficulty = rng.normal(size=80)
        runs = {name: difficulty + rng.normal(size=(3, 80)) for name in ("a", "b", "c")}
        compared = compare_all(runs)
        assert [(c.first, c.second) for c in compared] == [("a", "b"), ("a", "c"), ("b", "c")]
        for c in compared:
            assert c.interval is not None
            assert c.real == (not c.interval[0] <= 0 <= c.interval[1])
        wrong += any(c.real for c in compared)
    assert 15 <= wrong <= 60
    assert len(compare_all(runs, against="b")) == 2
    with pytest.raises(ValueError, match="no method is named 'd'"):
        compare_all(runs, against="d")
