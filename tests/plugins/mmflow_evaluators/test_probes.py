from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.knn import Knn
from mmflow_evaluators.linear_probe import LinearProbe
from mmflow_evaluators.probes.regularized import Rows, parted

from mmflow.plugin import ComponentError, Encoding

MODEL = SimpleNamespace(names=lambda field: ())


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def ids(count: int, prefix: str = "row") -> list[str]:
    return [f"{prefix}-{i}" for i in range(count)]


def blobs(count: int, classes: int, spread: float, seed: int) -> tuple[Encoding, torch.Tensor]:
    """Points around the corners of a cross, one class a corner."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    centers = torch.eye(classes, 8) * 3
    return encoding(centers[labels] + spread * torch.randn(count, 8, generator=generator)), labels


def as_test(vectors: Encoding, labels: torch.Tensor) -> Any:
    return SimpleNamespace(of=(vectors,), fields={"labels": labels}, ids=ids(len(labels), "test"))


def test_a_linear_probe_finds_separable_classes_and_nothing_in_noise():
    probe = LinearProbe(data="train", test="test", of=("image",), labels="label")
    train, labels = blobs(200, 4, 0.3, 0)
    test, truth = blobs(80, 4, 0.3, 1)
    (metric,) = probe.evaluate(train, labels=labels, ids=ids(200), test=as_test(test, truth), model=MODEL).metrics
    assert metric.name == "accuracy"
    assert metric.value == 1.0
    majority = int(labels.bincount().argmax())
    assert metric.chance == pytest.approx(float((truth == majority).double().mean()))
    noise = encoding(torch.randn(200, 8, generator=torch.Generator().manual_seed(2)))
    other = encoding(torch.randn(80, 8, generator=torch.Generator().manual_seed(3)))
    (metric,) = probe.evaluate(noise, labels=labels, ids=ids(200), test=as_test(other, truth), model=MODEL).metrics
    assert metric.spread is not None
    assert abs(metric.value - 0.25) < 3 * metric.spread


def test_features_are_standardized():
    probe = LinearProbe(data="train", test="test", of=("image",), labels="label")
    train, labels = blobs(120, 3, 0.8, 0)
    test, truth = blobs(60, 3, 0.8, 1)
    scale, shift = torch.logspace(-4, 4, 8), 1e5
    plain = probe.evaluate(train, labels=labels, ids=ids(120), test=as_test(test, truth), model=MODEL)
    scaled = probe.evaluate(
        encoding(train.pooled.double() * scale + shift), labels=labels, ids=ids(120),
        test=as_test(encoding(test.pooled.double() * scale + shift), truth), model=MODEL,
    )  # fmt: skip
    assert scaled.metrics == plain.metrics


def test_the_penalty_is_chosen_on_held_out_rows_of_the_training_data():
    # With so strong a penalty only the intercept is left, which answers the majority class.
    labels = (torch.arange(300) % 3 == 0).long()
    vectors = torch.eye(2)[labels] + 0.1 * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))

    def tried(*c: float) -> tuple[list[float], str]:
        probe = LinearProbe(data="train", of=("image",), labels="label", c=c)
        measured = probe.evaluate(encoding(vectors), labels=labels, ids=ids(300), test=None, model=MODEL)
        assert measured.metrics[0].value == 1.0
        figure = measured.figures["Penalty of the probe on image"]
        return figure["values"], figure["note"]

    values, note = tried(1e-9, 1.0)
    assert values[0] == pytest.approx(2 / 3, abs=0.15)
    assert values[1] == 1.0
    assert "C = 1 was chosen" in note
    # Of equal ones, the stronger penalty.
    assert "C = 0.5 was chosen" in tried(0.5, 1.0)[1]


def test_without_test_data_a_part_chosen_by_ids_is_held_out():
    data = Rows(np.arange(400.0)[:, None], np.arange(400) % 2, ids(400))
    kept, out = parted(data, 0.25, "probe test")
    assert set(kept.ids).isdisjoint(out.ids)
    assert len(kept.ids) + len(out.ids) == 400
    assert 70 <= len(out.ids) <= 130
    shuffled = data.at(np.random.default_rng(0).permutation(400))
    assert set(parted(shuffled, 0.25, "probe test")[1].ids) == set(out.ids)
    assert set(parted(data, 0.25, "probe penalty")[1].ids) != set(out.ids)
    kept, out = parted(data.at(np.arange(2)), 1e-9, "probe test")
    assert (len(kept.ids), len(out.ids)) == (1, 1)


def test_rows_without_label_or_value_are_left_out():
    train, labels = blobs(100, 2, 0.1, 0)
    vectors = train.pooled.clone()
    vectors[:20] = 1e6
    labels = labels.clone()
    labels[:10] = -1
    present = torch.ones(100, dtype=torch.bool)
    present[10:20] = False
    probe = LinearProbe(data="train", of=("image",), labels="label")
    (metric,) = probe.evaluate(encoding(vectors, present), labels=labels, ids=ids(100), test=None, model=MODEL).metrics
    assert metric.value == 1.0
    with pytest.raises(ComponentError, match="0 rows with a target"):
        probe.evaluate(train, labels=torch.full((100,), -1), ids=ids(100), test=None, model=MODEL)
    with pytest.raises(ComponentError, match="labeled rows of one class"):
        probe.evaluate(train, labels=torch.zeros(100, dtype=torch.int64), ids=ids(100), test=None, model=MODEL)


def test_neighbors_vote(dot):
    # On a line, scores are products: row 3 (at 1.0) sees 3.0, 2.9 of class 0 and 2.8, 2.7, 2.6 of class 1.
    known = encoding([[3.0], [2.9], [2.8], [2.7], [2.6]])
    labels = torch.tensor([0, 0, 1, 1, 1])
    asked = as_test(encoding([[1.0]]), torch.tensor([0]))

    def accuracy(**fields: Any) -> float:
        knn = Knn(data="train", test="test", of=("image",), labels="label", score=dot, **fields)
        return knn.evaluate(known, labels=labels, ids=ids(5), score=dot, test=asked, model=MODEL).metrics[0].value

    assert accuracy(k=1) == accuracy(k=3) == 1.0
    assert accuracy(k=4) == 1.0  # two against two: the nearest decides
    assert accuracy(k=5) == 0.0
    assert accuracy(k=5, temperature=0.05) == 1.0
    assert accuracy(k=5, temperature=100.0) == 0.0


def test_leave_one_out_does_not_ask_the_row_itself(dot):
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    knn = Knn(data="train", of=("image",), labels="label", score=dot, k=1)
    alone = knn.evaluate(encoding(vectors), labels=torch.arange(4), ids=ids(4), score=dot, test=None, model=MODEL)
    assert alone.metrics[0].value == 0.0
    pairs = knn.evaluate(
        encoding(vectors), labels=torch.tensor([0, 0, 1, 1]), ids=ids(4), score=dot, test=None, model=MODEL
    )
    assert pairs.metrics[0].value == 1.0


def test_several_encoders_have_their_own_metrics(dot):
    train, labels = blobs(40, 2, 0.1, 0)
    knn = Knn(data="train", of=("image", "text.features"), labels="label", score=dot, k=5)
    measured = knn.evaluate(train, train, labels=labels, ids=ids(40), score=dot, test=None, model=MODEL)
    assert [m.name for m in measured.metrics] == ["image_accuracy", "text_features_accuracy"]
