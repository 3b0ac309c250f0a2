"""Calibration and uncertainty: against torchmetrics, scikit-learn and loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.uncertainty import measures as of
from mmflow_evaluators.uncertainty.calibration import Calibration
from mmflow_evaluators.uncertainty.uncertainty import Uncertainty
from mmflow_scores.products import Cosine
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from mmflow.plugin import ComponentError, Encoding


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def test_calibration_errors_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    for case in range(20):
        p = rng.dirichlet(np.full(4, 0.5), int(rng.integers(1, 200)))
        p = np.round(p, 1) if case % 4 == 0 else p
        p = p / p.sum(1, keepdims=True)
        labels = np.array([rng.choice(4, p=row) for row in p])
        confidence, right = p.max(1), p.argmax(1) == labels
        preds, target = torch.from_numpy(p), torch.from_numpy(labels)
        for norm, ours in (("l1", of.expected_calibration_error), ("max", of.maximum_calibration_error)):
            theirs = float(multiclass_calibration_error(preds, target, num_classes=4, n_bins=15, norm=norm))
            # At the very edge of a bin torchmetrics takes the upper one, the paper the lower.
            if case % 4:
                assert ours(confidence, right) == pytest.approx(theirs, abs=1e-6)
        assert (
            of.log_losses(p, labels).mean() == pytest.approx(log_loss(labels, p, labels=range(4)), rel=1e-6)
            or (p == 0).any()
        )
        loop = np.mean([sum((p[i, c] - (labels[i] == c)) ** 2 for c in range(4)) for i in range(len(p))])
        assert of.brier_scores(p, labels).mean() == pytest.approx(loop)


def test_bins_at_their_edges_and_empty_ones():
    found = of.reliability([0.0, 0.5, 0.5, 1.0], [0, 1, 0, 1], bins=2)
    assert found.counts.tolist() == [3, 1]
    assert found.accuracy.tolist() == pytest.approx([1 / 3, 1])
    assert of.reliability([0.5, 0.6], [0, 1], bins=2).counts.tolist() == [1, 1]
    assert of.expected_calibration_error([1.0], [0]) == 1.0
    assert of.expected_calibration_error([0.5, 0.5], [0, 1]) == 0.0
    assert of.adaptive_calibration_error([0.2, 0.4], [0, 1], bins=2) == pytest.approx((0.2 + 0.6) / 2)
    for bad in ([], [math.nan], [1.5]):
        with pytest.raises(ValueError, match="confidence"):
            of.expected_calibration_error(bad, [1] * len(bad))


def test_risk_and_coverage_against_a_loop_with_ties_averaged():
    rng = np.random.default_rng(0)
    u, errors = rng.normal(size=30), (rng.random(30) < 0.3).astype(float)
    order = np.argsort(u)
    loop = np.mean([errors[order[: n + 1]].mean() for n in range(30)])
    assert of.risk_coverage_area(u, errors) == pytest.approx(loop)
    assert of.risk_coverage_area(np.zeros(30), errors) == pytest.approx(errors.mean())
    assert of.best_risk_coverage_area(errors) <= of.risk_coverage_area(u, errors)
    tied = rng.integers(0, 3, 30)
    drawn = [of.risk_coverage_area(tied + 1e-6 * rng.random(30), errors) for _ in range(3000)]
    assert of.risk_coverage_area(tied, errors) == pytest.approx(np.mean(drawn), abs=2e-3)
    assert math.isnan(of.risk_coverage_area([], []))
    with pytest.raises(ValueError, match="not finite"):
        of.risk_coverage_area([math.nan], [1.0])


def test_a_calibrated_model_is_told_from_a_boastful_one():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 4, 400))
    rows = np.eye(4)[labels] + 0.7 * rng.normal(size=(400, 4))
    model = SimpleNamespace(
        names=lambda field: tuple("abcd"),
        encode=lambda encoder, texts: encoding(np.eye(4)),
    )
    errors = {}
    for temperature in (0.3, 0.01):
        stage = Calibration(data="test", of=("image", "text"), labels="label", temperature=temperature)
        found = stage.evaluate(encoding(rows), encoding(rows), labels, temperature, Cosine(), model)
        errors[temperature] = value(found, "ece").value
        assert value(found, "accuracy").value > 0.6
        assert value(found, "ece").low is not None
    assert errors[0.01] > errors[0.3] + 0.1
    with pytest.raises(ComponentError, match="no row"):
        stage.evaluate(encoding(rows), encoding(rows), torch.full((400,), -1), 0.1, Cosine(), model)


def test_uncertainty_that_knows_its_errors():
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.05, 2.5, 200)
    x = rng.normal(size=(200, 16))
    rows = Encoding({"pooled": torch.from_numpy(x + noise[:, None] * rng.normal(size=(200, 16)))})
    other = encoding(x)
    stage = Uncertainty(data="test", of=("image", "text"), uncertainty="spread")
    found = stage.evaluate(rows, other, torch.from_numpy(noise), Cosine())
    assert value(found, "error_auroc").value > 0.75
    assert value(found, "error_auroc").chance == 0.5
    assert value(found, "aurc").value < value(found, "aurc").chance
    random = stage.evaluate(rows, other, torch.from_numpy(rng.random(200)), Cosine())
    assert value(random, "error_auroc").low < 0.5 < value(random, "error_auroc").high
    perfect = stage.evaluate(other, other, torch.from_numpy(noise), Cosine())
    assert [m.name for m in perfect.metrics] == ["r1"]
    assert "every query" in " ".join(perfect.notes)
