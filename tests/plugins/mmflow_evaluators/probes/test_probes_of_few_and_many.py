"""Episodes, curves over few rows, and linear probes with a chosen penalty: against scikit-learn and loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.probes import regularized
from mmflow_evaluators.probes.episodes import classify, draw_episode, draw_shots, enough, hits
from mmflow_evaluators.probes.few_shot import FewShot, KShotProbe
from mmflow_evaluators.probes.linear_probes import FactorProbe, MultiLabelProbe, RegressionProbe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, r2_score
from sklearn.neighbors import KNeighborsClassifier

from mmflow.plugin import ComponentError, Encoding, Tokens


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def ids(count: int, prefix: str = "row") -> list[str]:
    return [f"{prefix}-{i}" for i in range(count)]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_an_episode_has_its_classes_and_no_row_twice():
    labels = np.array([0] * 8 + [1] * 8 + [2] * 8 + [3] * 3 + [-1] * 9)
    assert enough(labels, 4).tolist() == [0, 1, 2]
    drawn = draw_episode(labels, 2, 3, 4, np.random.default_rng(0))
    assert (len(drawn.support), len(drawn.query)) == (6, 8)
    assert len({*drawn.support.tolist(), *drawn.query.tolist()}) == 14
    for rows, classes in ((drawn.support, drawn.support_class), (drawn.query, drawn.query_class)):
        names = [set(labels[rows[classes == c]].tolist()) for c in (0, 1)]
        assert all(len(n) == 1 for n in names)
        assert names[0] != names[1]
    with pytest.raises(ValueError, match="3 classes have 8 rows, an episode needs 4"):
        draw_episode(labels, 4, 4, 4, np.random.default_rng(0))
    assert np.bincount(labels[draw_shots(labels, 5, np.random.default_rng(0))]).tolist() == [5, 5, 5]
    assert len(draw_shots(labels, 20, np.random.default_rng(0))) == 0


def test_classifiers_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 6)
    x, asked = rng.normal(size=(24, 5)) + np.eye(5)[classes], rng.normal(size=(50, 5))
    nearest = KNeighborsClassifier(1, metric="cosine").fit(x, classes).predict(asked)
    assert (classify("neighbor", x, classes, asked).argmax(1) == nearest).all()
    linear = LogisticRegression(C=2.0, max_iter=500).fit(unit(x), classes).predict(unit(asked))
    assert (classify("linear", x, classes, asked, 2.0).argmax(1) == linear).all()
    means = np.stack([unit(x)[classes == c].mean(0) for c in range(4)])
    loop = [max(range(4), key=lambda c, row=row: row @ means[c] / np.linalg.norm(means[c])) for row in asked]
    assert classify("mean", x, classes, asked).argmax(1).tolist() == loop
    for by in ("mean", "neighbor"):
        tied = classify(by, np.ones((8, 3)), np.arange(8) // 2, np.ones((2, 3)))
        assert hits(tied, np.array([0, 3])).tolist() == [0.25, 0.25]


def test_episodes_of_noise_are_at_chance_and_of_blobs_above():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.repeat(np.arange(6), 20))
    stage = FewShot(data="test", of=("image",), labels="label", ways=4, shots=(1, 5, 30), queries=10, episodes=100)
    noise = stage.evaluate(encoding(rng.normal(size=(120, 16))), labels=labels)
    for metric in noise.metrics:
        assert metric.chance == 0.25
        assert metric.value == pytest.approx(0.25, abs=0.05)
    assert "30 shots are not measured: 0 of 6 classes have 40 rows, an episode needs 4." in noise.notes
    x = np.eye(8)[labels] + 0.3 * rng.normal(size=(120, 8))
    blobs = stage.evaluate(encoding(x), labels=labels)
    assert value(blobs, "1_shot").value < value(blobs, "5_shot").value
    assert stage.evaluate(encoding(x), labels=labels).metrics == blobs.metrics
    with pytest.raises(ComponentError, match="classes have"):
        stage.evaluate(encoding(x), labels=torch.zeros(120).long())


def test_a_curve_over_rows_a_class():
    rng = np.random.default_rng(0)
    labels, asked = np.repeat(np.arange(4), 16), np.repeat(np.arange(5), 10)
    x, y = (np.eye(8)[c] + 0.6 * rng.normal(size=(len(c), 8)) for c in (labels, asked))
    test = SimpleNamespace(of=(encoding(y),), fields={"labels": torch.from_numpy(asked)}, ids=ids(50))
    stage = KShotProbe(data="train", test="test", of=("image",), labels="label", shots=(1, 16, 40), by="mean")
    found = stage.evaluate(encoding(x), labels=torch.from_numpy(labels), test=test)
    assert value(found, "16_shot_accuracy").chance == pytest.approx(1 / 5)
    predicted = classify("mean", x, labels, y).argmax(1)
    assert value(found, "16_shot_accuracy").value == pytest.approx((predicted == asked).mean())
    assert value(found, "1_shot_accuracy").value < value(found, "16_shot_accuracy").value <= 0.8
    assert "40 shots are not measured: 0 classes have so many rows." in found.notes
    assert "1 classes have fewer than 16 rows to learn from." in found.notes
    assert found.figures["Accuracy by rows a class"]["x"] == [1, 16]


def test_measures_of_probes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    assert regularized.r_squared(a, b) == pytest.approx(r2_score(b, a))
    assert math.isnan(regularized.r_squared(a, np.ones(30)))
    scores, truth = rng.normal(size=(30, 5)), rng.random((30, 5)) < 0.4
    expected = average_precision_score(truth, scores, average="macro")
    assert regularized.mean_average_precision(scores, truth) == pytest.approx(expected)
    truth[:, 0], truth[:, 1] = True, False
    assert regularized.mean_average_precision(scores, truth) == pytest.approx(
        average_precision_score(truth[:, 2:], scores[:, 2:], average="macro")
    )
    assert math.isnan(regularized.mean_average_precision(scores, np.ones((30, 5), bool)))


def test_the_penalty_that_is_best_on_held_out_rows_is_used_on_all():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 60))
    targets = x[:, 0] + 0.5 * rng.normal(size=200)
    train, test = regularized.Rows(x, targets, ids(200)), regularized.Rows(x[:10], targets[:10], ids(10))
    found = regularized.probe(regularized.numbers, regularized.r_squared, train, test, (1e-6, 10.0, 1e6), "penalty")
    assert found.penalty == 10.0
    assert found.tried.index(max(found.tried)) == 1
    scaled = (x - x.mean(0)) / x.std(0)
    alone = regularized.numbers(regularized.Rows(scaled, targets, ids(200)), 10.0, scaled[:10])
    assert found.predicted == pytest.approx(alone)
    kept, out = regularized.parted(train, 0.2, "penalty")
    assert set(kept.ids).isdisjoint(out.ids)
    assert len(regularized.parted(train.at(np.arange(2)), 1e-9, "x")[1].ids) == 1


def test_factors_are_probed_one_by_one():
    rng = np.random.default_rng(0)
    color, shape = rng.integers(0, 3, (2, 240))
    x = np.concatenate([np.eye(3)[color], rng.normal(size=(240, 3))], axis=1) + 0.05 * rng.normal(size=(240, 6))
    columns = tuple(torch.from_numpy(v) for v in (color, shape, np.zeros(240, int)))
    stage = FactorProbe(data="train", of=("image",), factors=("color", "shape", "size"))
    found = stage.evaluate(encoding(x), factors=columns, ids=ids(240), test=None)
    assert value(found, "color_accuracy").value == 1.0
    assert value(found, "shape_accuracy").low < 1 / 3 + 0.1
    assert found.notes == ["size: the 176 rows to learn from have one class."]
    test = SimpleNamespace(of=(encoding(x[:50]),), fields={"factors": tuple(c[:50] for c in columns)}, ids=ids(50))
    tested = FactorProbe(data="train", test="test", of=("image",), factors=("color", "shape", "size")).evaluate(
        encoding(x), factors=columns, ids=ids(240), test=test
    )
    assert value(tested, "color_accuracy").value == 1.0
    majority = np.bincount(shape).argmax()
    assert value(tested, "shape_accuracy").chance == pytest.approx((shape[:50] == majority).mean())


def test_numbers_are_regressed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6))
    size = torch.from_numpy(x @ rng.normal(size=6) + 0.1 * rng.normal(size=200))
    size[:20] = math.nan
    stage = RegressionProbe(data="train", of=("image",), target="size")
    found = stage.evaluate(encoding(x), target=size, ids=ids(200), test=None)
    assert value(found, "r2").value > 0.95
    assert value(found, "r2").chance == pytest.approx(0, abs=0.1)
    assert value(found, "r2").low < value(found, "r2").value < value(found, "r2").high <= 1
    assert value(found, "mean_absolute_error").value < value(found, "mean_absolute_error").chance
    with pytest.raises(ComponentError, match="the target is constant"):
        stage.evaluate(encoding(x), target=torch.ones(200), ids=ids(200), test=None)


def test_several_labels_a_row_are_probed_against_their_frequency():
    rng = np.random.default_rng(0)
    sets = rng.random((300, 4)) < np.array([0.1, 0.3, 0.5, 0.0])
    x = sets + 0.1 * rng.normal(size=(300, 4))
    length = int(sets.sum(1).max())
    values, mask = np.zeros((300, length), int), np.zeros((300, length), bool)
    for row, found in enumerate(sets):
        tags = np.flatnonzero(found)
        values[row, : len(tags)], mask[row, : len(tags)] = tags, True
    tags = Tokens(torch.from_numpy(values), torch.from_numpy(mask))
    stage = MultiLabelProbe(data="train", of=("image",), labels="tags")
    found = stage.evaluate(encoding(x), labels=tags, ids=ids(300), test=None)
    assert value(found, "map").value == pytest.approx(1.0)
    noise = stage.evaluate(encoding(rng.normal(size=(300, 4))), labels=tags, ids=ids(300), test=None)
    assert value(noise, "map").value == pytest.approx(value(noise, "map").chance, abs=0.12)
    assert 0.2 < value(noise, "map").chance < 0.4
    with pytest.raises(ComponentError, match="every label is on all"):
        stage.evaluate(encoding(x), labels=torch.zeros(300, 1).long(), ids=ids(300), test=None)
