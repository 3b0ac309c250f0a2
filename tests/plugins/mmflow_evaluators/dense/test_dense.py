"""Maps of classes, contours, keypoints and labels carried over: against torchmetrics, published code and loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.dense import segmentation as of
from mmflow_evaluators.dense.contours import contour, contour_accuracy, keypoints_found, region_similarity
from mmflow_evaluators.dense.grid_probe import GridProbe
from mmflow_evaluators.dense.propagation import propagate, propagate_video
from sklearn.metrics import balanced_accuracy_score, jaccard_score
from torchmetrics.functional.classification import multiclass_jaccard_index

from mmflow.plugin import ComponentError, Encoding


def test_maps_of_classes_agree_with_scikit_learn_and_torchmetrics():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.integers(0, 4, (3, 8, 8))
        found = np.where(rng.random((3, 8, 8)) < 0.6, truth, rng.integers(0, 5, (3, 8, 8)))
        truth[rng.random((3, 8, 8)) < 0.1] = 255
        areas = sum(of.class_areas(t, f, 5) for t, f in zip(truth, found, strict=True))
        t, f = truth[truth != 255], found[truth != 255]
        names = sorted({*t.tolist(), *f.tolist()})
        assert of.mean_iou(areas) == pytest.approx(jaccard_score(t, f, labels=names, average="macro"))
        theirs = multiclass_jaccard_index(torch.from_numpy(f), torch.from_numpy(t), num_classes=5, average="none")
        assert of.mean_iou(areas) == pytest.approx(float(theirs[names].mean()), abs=1e-6)
        assert of.pixel_accuracy(areas) == pytest.approx((t == f).mean())
        present = np.isin(f, np.unique(t))
        loop = np.mean([(f[t == c] == c).mean() for c in np.unique(t)])
        assert of.class_accuracy(areas) == pytest.approx(loop)
        if present.all():
            assert of.class_accuracy(areas) == pytest.approx(balanced_accuracy_score(t, f))
    nothing = of.class_areas(np.full((2, 2), 255), np.zeros((2, 2)), 3)
    assert all(math.isnan(m(nothing)) for m in (of.mean_iou, of.pixel_accuracy, of.class_accuracy))
    assert of.class_areas([0, 0], [9, -1], 2).tolist() == [[0, 2, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="pixels"):
        of.class_areas([0, 1], [0], 2)


def test_cells_take_the_most_frequent_class_and_pixels_that_of_their_cell():
    mask = np.array([[[0, 0, 2, 255], [0, 1, 2, 255], [1, 1, 255, 255], [3, 3, 255, 255]]])
    assert of.cell_classes(mask, 2, 2).tolist() == [[[0, 2], [1, -1]]]
    assert of.cell_classes(mask, 4, 4).tolist() == np.where(mask == 255, -1, mask).tolist()
    assert of.cell_classes([[[4]]], 2, 2).tolist() == [[[4, 4], [4, 4]]]
    assert of.enlarged([[[0, 1]]], 2, 4).tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


def disk(radius: float) -> list[tuple[int, int]]:
    reach = range(-int(radius), int(radius) + 1)
    return [(a, b) for a in reach for b in reach if a * a + b * b <= radius * radius]


def test_contours_by_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    for radius in (1, 2, 3):
        truth, found = (np.kron(rng.random((4, 4)) < 0.4, np.ones((6, 6))).astype(bool) for _ in range(2))
        t, f = contour(truth), contour(found)

        def near(a: np.ndarray, b: np.ndarray, reach: int) -> float:
            places = {(r + x, c + y) for r, c in np.argwhere(b).tolist() for x, y in disk(reach)}
            return float(np.mean([(r, c) in places for r, c in np.argwhere(a).tolist()]))

        precision, recall = near(f, t, radius), near(t, f, radius)
        assert contour_accuracy(truth, found, radius) == pytest.approx(2 * precision * recall / (precision + recall))
    square = np.zeros((6, 6), bool)
    square[2:4, 2:4] = True
    expected = np.zeros((6, 6), bool)
    expected[1:4, 1:4] = True
    expected[2, 2] = False
    assert (contour(square) == expected).all()


def test_agreement_of_masks_at_its_ends():
    full, none = np.ones((5, 5), bool), np.zeros((5, 5), bool)
    half = none.copy()
    half[:2] = True
    assert (region_similarity(full, full), region_similarity(none, none), region_similarity(full, none)) == (1, 1, 0)
    assert (contour_accuracy(half, half), contour_accuracy(half, none), contour_accuracy(none, none)) == (1, 0, 1)
    assert region_similarity(full, half) == pytest.approx(0.4)
    # A full mask has no contour, as the image's edge is none.
    assert contour_accuracy(full, none) == 1.0


def test_keypoints_within_a_share_of_the_size():
    truth, found = np.zeros((2, 3, 2)), np.zeros((2, 3, 2))
    found[0, :, 0] = [0.9, 1.0, 1.1]
    visible = np.array([[True, True, True], [True, False, False]])
    hits = keypoints_found(found, truth, [10, 10], 0.1, visible)
    assert hits[0].tolist() == [1, 1, 0]
    assert np.isnan(hits[1, 1:]).all()
    found[1, 1] = np.nan
    assert hits[1, 0] == keypoints_found(found, truth, [10, 10], 0.1, visible)[1, 0]
    with pytest.raises(ValueError, match="finite"):
        keypoints_found(found, truth, [10, 10])


@pytest.mark.parametrize("case", ["", "--first-frame-unmasked", "--no-mask", "--no-topk"])
def test_labels_are_carried_as_published_code_does(oracle: Any, case: str):
    call = oracle(f"041-vfs/label_propagation{case}")
    reach, top = int(call["opt_neighbor_range"]), int(call["opt_topk"])
    query, keys = call["in_query"][0], call["in_key"][0].transpose(1, 0, 2, 3)
    # The published function is given vectors of length one.
    query, keys = (v / np.linalg.norm(v, axis=axis, keepdims=True) for v, axis in ((query, 0), (keys, 1)))
    found = propagate(
        query, keys, call["in_value"][0].transpose(1, 0, 2, 3), temperature=float(call["opt_temperature"]),
        top=top or None, radius=reach // 2 if reach else None, free=int(call["opt_non_mask_len"]),
    )  # fmt: skip
    assert found == pytest.approx(call["out_out"][0])


def test_equal_frames_keep_their_labels_and_the_order_of_frames_does_not_matter():
    rng = np.random.default_rng(0)
    frame = rng.normal(size=(8, 4, 5))
    frame /= np.linalg.norm(frame, axis=0)
    labels = (rng.integers(0, 3, (4, 5)) == np.arange(3)[:, None, None]).astype(float)
    video = propagate_video(np.stack([frame] * 5), labels, top=1)
    assert (video == labels).all()
    keys = rng.normal(size=(3, 8, 4, 5))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    values = rng.random((3, 3, 4, 5))
    order = [2, 0, 1]
    assert propagate(frame, keys, values, radius=2.5) == pytest.approx(
        propagate(frame, keys[order], values[order], radius=2.5)
    )
    assert propagate(frame, keys, values, radius=0).max() == 0.0


@pytest.mark.parametrize("by", ["linear", "neighbor"])
def test_a_grid_that_holds_the_classes_segments_them(by: str):
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[Encoding, torch.Tensor]:
        cells = rng.integers(0, 3, (count, 4, 4))
        vectors = np.eye(5)[cells] + 0.05 * rng.normal(size=(count, 4, 4, 5))
        masks = np.kron(cells, np.ones((1, 2, 2), int))
        masks[:, 0, 0] = 255
        return Encoding({"grid": torch.from_numpy(vectors)}), torch.from_numpy(masks)

    (train, known), (rows, asked) = draw(30), draw(20)
    stage = GridProbe(data="train", test="test", of=("image.grid",), mask="mask", by=by, k=5)
    test = SimpleNamespace(of=(rows,), fields={"mask": asked}, ids=[])
    found = stage.evaluate(train, mask=known, test=test)
    assert [m.name for m in found.metrics] == ["miou", "pixel_accuracy", "class_accuracy"]
    assert [m.value for m in found.metrics] == pytest.approx([1, 1, 1])
    assert 0.05 < found.metrics[0].chance < 0.2
    assert found.metrics[0].low < 1
    listed = stage.evaluate(train, mask=[m.numpy() for m in known], test=test)
    assert listed.metrics == found.metrics
    with pytest.raises(ComponentError, match="fewer than two classes"):
        stage.evaluate(train, mask=torch.zeros_like(known), test=test)
    with pytest.raises(ComponentError, match="needs one grid a row"):
        stage.evaluate(Encoding({"grid": torch.ones(30, 5)}), mask=known, test=test)
