"""Stages that read lists of rows a sample: moments, boundaries, boxes, tracks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.detection.detection import Detection
from mmflow_evaluators.ragged import ragged
from mmflow_evaluators.temporal import boundaries
from mmflow_evaluators.temporal.boundary_detection import BoundaryDetection
from mmflow_evaluators.temporal.moment_retrieval import MomentRetrieval
from mmflow_evaluators.tracking.tracking import Tracking

from mmflow.plugin import ComponentError, Tokens


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def padded(rows: list[Any]) -> Tokens:
    """A field of modality series, as the loader joins it."""
    arrays = [np.asarray(row, dtype=np.float32) for row in rows]
    longest = max(map(len, arrays))
    values = np.zeros((len(arrays), longest, *arrays[-1].shape[1:]), np.float32)
    mask = np.zeros((len(arrays), longest), bool)
    for place, array in enumerate(arrays):
        values[place, : len(array)], mask[place, : len(array)] = array, True
    return Tokens(torch.from_numpy(values), torch.from_numpy(mask))


def test_lists_are_read_from_series_vectors_and_columns():
    rows = [[[1, 2], [3, 4]], [[5, 6]]]
    for column in (padded(rows), rows):
        assert [r.tolist() for r in ragged(column, (2,), "test") if r is not None] == rows
    assert ragged([None, [], [7, 8]], (2,), "test")[0] is None
    assert ragged([None, [], [7, 8]], (2,), "test")[1].shape == (0, 2)
    assert ragged([None, [], [7, 8]], (2,), "test")[2].tolist() == [[7, 8]]
    vectors = torch.tensor([[1.0, 2.0], [math.nan, math.nan]])
    assert ragged(vectors, (2,), "test")[0].tolist() == [[1, 2]]
    assert ragged(vectors, (2,), "test")[1] is None
    assert ragged([[1, 0, 1]], (0,), "test")[0].tolist() == [1, 0, 1]
    for bad in ([[[1, 2, 3]]], [[[1, math.nan]]]):
        with pytest.raises(ComponentError, match=r"test: needs finite rows \[L, 2\]"):
            ragged(bad, (2,), "test")


def test_moments_are_found_among_those_of_other_samples():
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 80, 60)
    truth = np.stack([start, start + 10], axis=1)
    found = [[[s - 30, s - 20, 0.1], [s, s + 10, 0.9]] for s in start + 40]
    found = [[[s, e, score] for s, e, score in np.asarray(row) - [40, 40, 0]] for row in found]
    found[7] = []
    stage = MomentRetrieval(data="test", found="search.moments", truth="moment")
    measured = stage.evaluate(found, torch.from_numpy(truth))
    assert value(measured, "r1_iou05").value == pytest.approx(59 / 60)
    assert value(measured, "r1_iou05").title == "R@1, IoU 0.5"
    assert value(measured, "miou").value == pytest.approx(59 / 60)
    assert value(measured, "r1_iou05").chance < 0.2
    assert "For 1 of 60 samples no moment was found." in measured.notes
    doubled = [row + [[s + 1, e + 1, score - 0.01] for s, e, score in row] for row in found]
    # Of the moments by falling score the second is a double of the first, and the right one of the other place third.
    other = np.stack([start - 30, start - 20], axis=1)
    crowded, alone = (MomentRetrieval(data="test", found="f", truth="t", at=(2,), suppress=s) for s in (None, 0.5))
    assert value(crowded.evaluate(doubled, torch.from_numpy(other)), "r2_iou05").value == 0.0
    assert value(alone.evaluate(doubled, torch.from_numpy(other)), "r2_iou05").value == pytest.approx(59 / 60)
    with pytest.raises(ComponentError, match="no sample has a true moment"):
        stage.evaluate(found, [None] * 60)


def test_boundaries_are_measured_over_sequences():
    rng = np.random.default_rng(0)
    truth = [(rng.random(30) < 0.2).astype(int) for _ in range(40)]
    stage = BoundaryDetection(data="test", found="cut.boundary", truth="boundary")
    right = stage.evaluate([t.tolist() for t in truth], padded(truth))
    assert {m.name: m.value for m in right.metrics} == {"pk": 0, "window_diff": 0, "f1": 1}
    assert value(right, "pk").chance > 0.3
    late = [np.roll(t, 1) for t in truth]
    near = BoundaryDetection(data="test", found="f", truth="t", tolerance=1).evaluate(late, truth)
    assert value(near, "f1").value > 0.9
    exact = stage.evaluate(late, truth)
    loop = [boundaries.pk(t, f) for t, f in zip(truth, late, strict=True)]
    assert value(exact, "pk").value == pytest.approx(np.mean(loop))
    none = stage.evaluate([[0, 0, 0, 0]], [[0, 0, 0, 0]])
    assert "F1: there is no boundary, and none was found." in none.notes


def test_boxes_are_measured_as_coco_does():
    rng = np.random.default_rng(0)
    truth = []
    for _ in range(12):
        corner = rng.integers(0, 60, (3, 2)).astype(float)
        truth.append(np.concatenate([corner, corner + 40, rng.integers(0, 2, (3, 1))], axis=1))
    found = [np.concatenate([t + np.array([0, 0, 4, 0, 0]), np.full((3, 1), 0.9)], axis=1) for t in truth]
    stage = Detection(data="test", found="detect.boxes", truth="boxes")
    measured = stage.evaluate(padded(found), padded(truth))
    # Shifted by a tenth of the width: an overlap of 40 / 44.
    assert value(measured, "ap50").value == pytest.approx(1.0)
    assert value(measured, "ap").value == pytest.approx(0.9, abs=0.02)
    assert value(measured, "ap50").low < 1
    assert value(measured, "ap_medium").value == pytest.approx(value(measured, "ap").value)
    assert "AP of large objects is not measured: there are none." in measured.notes
    assert value(stage.evaluate([None] * 12, truth), "ap").value == 0.0
    with pytest.raises(ComponentError, match="no sample has a true box"):
        stage.evaluate(found, [None] * 12)


def test_tracks_are_measured_over_sequences():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    truth = [[time, who, *boxes[who]] for time in range(4) for who in (0, 1)]
    swapped = [[time, who if time < 2 else 1 - who, *boxes[who]] for time in range(4) for who in (0, 1)]
    stage = Tracking(data="test", found="follow.tracks", truth="tracks")
    perfect = stage.evaluate([truth, truth], padded([truth, truth]))
    assert all(value(perfect, n).value == pytest.approx(1) for n in ("hota", "det_a", "ass_a", "mota", "motp", "idf1"))
    measured = stage.evaluate([swapped, truth], [truth, truth])
    assert value(measured, "switches").value == 2
    assert value(measured, "mota").value == pytest.approx(1 - 2 / 16)
    assert value(measured, "idf1").value == pytest.approx(0.75)
    lost = stage.evaluate([None, None], [truth, truth])
    assert (value(lost, "hota").value, value(lost, "mota").value, value(lost, "idf1").value) == (0, 0, 0)
    assert "MOTP is not measured: nothing is matched." in lost.notes
    with pytest.raises(ComponentError, match="no sample has a true box"):
        stage.evaluate([truth], [None])
