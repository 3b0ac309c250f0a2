"""Telling two kinds apart by a score: against scikit-learn, scipy and loops over thresholds."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.binary.correlation import pearson, spearman
from mmflow_evaluators.binary.open_set import OpenSet
from mmflow_evaluators.binary.pair_classification import PairClassification
from mmflow_evaluators.binary.scores import auroc, average_precision, best_accuracy, best_f1, false_positive_rate
from mmflow_evaluators.binary.similarity_correlation import SimilarityCorrelation
from mmflow_scores.products import Cosine
from scipy import stats
from sklearn import metrics

from mmflow.plugin import ComponentError, Encoding


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def cases(count: int = 60) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        size = int(rng.integers(2, 40))
        truth = rng.random(size) < rng.uniform(0.1, 0.9)
        truth[:2] = [True, False]
        scores = rng.normal(size=size) + truth
        # Every third case is full of ties, every fifth constant.
        scores = np.round(scores) if number % 3 == 0 else scores
        found.append((np.zeros(size) if number % 5 == 0 else scores, truth))
    return found


def test_areas_agree_with_scikit_learn_on_random_tied_and_constant_scores():
    for scores, truth in cases():
        assert auroc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth, scores))
        assert average_precision(scores, truth) == pytest.approx(metrics.average_precision_score(truth, scores))


def test_best_thresholds_against_a_loop_over_all_of_them():
    for scores, truth in cases():
        tried = [-math.inf, *((a + b) / 2 for a, b in zip(*[np.unique(scores)[k:] for k in (0, 1)], strict=False)), 9e9]
        accuracies = [float(((scores >= t) == truth).mean()) for t in tried]
        f1s = [float(metrics.f1_score(truth, scores >= t, zero_division=0)) for t in tried]
        found, threshold = best_accuracy(scores, truth)
        assert found == pytest.approx(max(accuracies))
        assert float(((scores >= threshold) == truth).mean()) == pytest.approx(found)
        found, threshold = best_f1(scores, truth)
        assert found == pytest.approx(max(f1s))
        assert metrics.f1_score(truth, scores >= threshold) == pytest.approx(found)


def test_false_positives_at_a_recall_against_a_loop():
    for number, (scores, truth) in enumerate(cases()):
        if number % 3 and number % 5:
            # Without ties the threshold is the highest that finds the share of the positives.
            highest = max(t for t in scores if (scores[truth] >= t).mean() >= 0.95 - 1e-12)
            assert false_positive_rate(scores, truth) == pytest.approx((scores[~truth] >= highest).mean())
    assert false_positive_rate(np.zeros(9), np.arange(9) < 3) == pytest.approx(0.95)
    assert false_positive_rate([3, 2, 1, 0], [True, True, False, False]) == 0.0
    assert false_positive_rate([0, 1, 2, 3], [True, True, False, False]) == 1.0


def test_one_kind_alone_has_no_score_and_nan_is_refused():
    for measure in (auroc, average_precision, false_positive_rate):
        assert math.isnan(measure([1.0, 2.0], [True, True]))
        assert math.isnan(measure([1.0, 2.0], [False, False]))
        assert math.isnan(measure([], []))
        with pytest.raises(ValueError, match="not finite"):
            measure([math.nan, 1.0], [True, False])
    assert math.isnan(best_accuracy([1.0], [True])[0])
    assert math.isnan(best_f1([1.0], [False])[0])
    with pytest.raises(ValueError, match="not both"):
        auroc([1.0, 2.0], [True])


def test_correlations_agree_with_scipy_on_ties_and_outliers():
    rng = np.random.default_rng(0)
    for number in range(40):
        x, y = rng.normal(size=(2, int(rng.integers(3, 40))))
        if number % 2:
            x, y = np.round(x), np.round(y * 2)
        if number % 5 == 0:
            y[0] = 1e9
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(pearson(np.full(5, 0.1) + np.array([0, 1, 0, 1, 0]) * 1e-17, np.arange(5)))
    assert math.isnan(pearson([1], [1]))
    with pytest.raises(ValueError, match="not finite"):
        spearman([1, math.nan], [1, 2])


def test_similarity_correlation_reads_the_target_and_says_when_there_is_none():
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, np.pi, 60)
    first = encoding(np.tile([1.0, 0.0], (60, 1)))
    second = encoding(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    target = torch.from_numpy(-angle)
    stage = SimilarityCorrelation(data="test", of=("first", "second"), target="similarity")
    found = stage.evaluate(first, second, target, Cosine())
    assert value(found, "spearman").value == pytest.approx(1.0)
    assert value(found, "spearman").spread > 0
    assert value(found, "pearson").value == pytest.approx(stats.pearsonr(np.cos(angle), -angle).statistic)
    assert value(found, "pearson").chance == 0
    holes = target.clone()
    holes[:20] = math.nan
    part = stage.evaluate(first, second, holes, Cosine())
    assert value(part, "pearson").value == pytest.approx(stats.pearsonr(np.cos(angle)[20:], -angle[20:]).statistic)
    # Cosines of random vectors with themselves differ from 1 by rounding.
    drawn = encoding(rng.normal(size=(60, 7)).astype(np.float32))
    for sides in ((first, first), (drawn, drawn)):
        equal = stage.evaluate(*sides, target, Cosine())
        assert equal.metrics == []
        assert equal.notes == ["spearman: all scores are equal.", "pearson: all scores are equal."]
    constant = stage.evaluate(first, second, torch.ones(60), Cosine())
    assert (constant.metrics, constant.notes[0]) == ([], "spearman: all targets are equal.")
    with pytest.raises(ComponentError, match="0 rows with both"):
        stage.evaluate(first, second, torch.full((60,), math.nan), Cosine())


def test_pair_classification_measures_pairs_and_its_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4 == 0
    a = rng.normal(size=(80, 6))
    b = np.where(labels[:, None], a, rng.normal(size=(80, 6)))
    stage = PairClassification(data="test", of=("first", "second"), labels="same")
    found = stage.evaluate(encoding(a), encoding(b), torch.from_numpy(labels.astype(int)), Cosine())
    assert [m.value for m in found.metrics] == [1.0, 1.0, 1.0, 1.0]
    assert [m.chance for m in found.metrics] == pytest.approx([0.25, 0.5, 0.75, 0.4])
    with pytest.raises(ComponentError, match="80 pairs with the label 1 and 0 with 0"):
        stage.evaluate(encoding(a), encoding(b), torch.ones(80).long(), Cosine())
    with pytest.raises(ComponentError, match="0 pairs with the label 1 and 0 with 0"):
        stage.evaluate(encoding(a), encoding(b), torch.full((80,), -1), Cosine())
    with pytest.raises(ComponentError, match="there is a 2"):
        stage.evaluate(encoding(a), encoding(b), torch.full((80,), 2), Cosine())


@pytest.mark.parametrize("by", ["mean", "neighbor"])
def test_unknown_classes_are_told_from_known_ones(by: str):
    rng = np.random.default_rng(0)
    known_classes = rng.integers(0, 3, 90)
    rows = np.eye(6)[known_classes] + 0.1 * rng.normal(size=(90, 6))
    asked_classes = rng.integers(0, 6, 120)
    asked = np.eye(6)[asked_classes] + 0.1 * rng.normal(size=(120, 6))
    test = SimpleNamespace(of=(encoding(asked),), fields={"labels": torch.from_numpy(asked_classes)}, ids=[])
    stage = OpenSet(data="train", test="test", of=("image",), labels="label", by=by, k=2)
    found = stage.evaluate(encoding(rows), labels=torch.from_numpy(known_classes), test=test)
    share = float((asked_classes < 3).mean())
    assert [m.name for m in found.metrics] == ["auroc", "fpr95", "aupr_known", "aupr_unknown"]
    assert [m.value for m in found.metrics] == pytest.approx([1.0, 0.0, 1.0, 1.0])
    assert [m.chance for m in found.metrics] == pytest.approx([0.5, 0.95, share, 1 - share])
    # The same scores by a loop.
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    means = [unit(unit(rows)[known_classes == c].mean(0)) for c in range(3)]
    noise = rng.normal(size=(120, 6))
    if by == "mean":
        loop = [max(float(unit(x) @ m) for m in means) for x in noise]
    else:
        loop = [sorted(float(unit(x) @ unit(r)) for r in rows)[-2] for x in noise]
    test.of = (encoding(noise),)
    found = stage.evaluate(encoding(rows), labels=torch.from_numpy(known_classes), test=test)
    assert value(found, "auroc").value == pytest.approx(metrics.roc_auc_score(asked_classes < 3, loop))


def test_open_set_refuses_what_has_no_unknown_rows_and_k_beyond_the_rows():
    test = SimpleNamespace(of=(encoding(np.eye(3)),), fields={"labels": torch.tensor([0, 1, 1])}, ids=[])
    stage = OpenSet(data="train", test="test", of=("image",), labels="label", by="neighbor", k=4)
    with pytest.raises(ComponentError, match="of a class of the data and 0 of others"):
        stage.evaluate(encoding(np.eye(3)), labels=torch.tensor([0, 1, 2]), test=test)
    with pytest.raises(ComponentError, match="k is 4, and the data has 3 labeled rows"):
        stage.evaluate(encoding(np.eye(3)), labels=torch.tensor([0, 0, 0]), test=test)
