"""Moments and boundaries: against torchvision, NLTK's published numbers, and loops."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.temporal import boundaries as of
from mmflow_evaluators.temporal.moments import (
    mean_moment_iou,
    moment_iou,
    moment_recall,
    suppress_moments,
)
from nltk.metrics.segmentation import pk, windowdiff
from torchvision.ops import box_iou, nms


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.sort(rng.integers(0, 12, (*shape, 2)).astype(float), axis=-1)


def as_boxes(moments: np.ndarray) -> torch.Tensor:
    """A moment as a box of height 1."""
    ones = np.ones(len(moments))
    return torch.from_numpy(np.stack([moments[:, 0], 0 * ones, moments[:, 1], ones], axis=1))


def test_overlaps_are_those_of_boxes_of_height_one():
    rng = np.random.default_rng(0)
    a, b = drawn(rng, 30), drawn(rng, 20)
    a, b = a[a[:, 1] > a[:, 0]], b[b[:, 1] > b[:, 0]]
    assert moment_iou(a, b) == pytest.approx(box_iou(as_boxes(a), as_boxes(b)).numpy())
    assert moment_iou([[2, 2]], [[2, 2], [2, 3], [1, 1]]).tolist() == [[1, 0, 0]]
    for bad in ([[3, 2]], [[math.nan, 2]]):
        with pytest.raises(ValueError, match="not finite, or ends before"):
            moment_iou(bad, a)
    with pytest.raises(ValueError, match="start and end"):
        moment_iou([1, 2, 3], a)


def test_recall_of_moments_against_a_loop():
    rng = np.random.default_rng(0)
    found, truth, present = drawn(rng, 40, 5), drawn(rng, 40), rng.random((40, 5)) < 0.7
    for at in (1, 3, 9):
        for overlap in (0.3, 0.5, 1.0):
            loop = []
            for row, moment, here in zip(found, truth, present, strict=True):
                overlaps = moment_iou(row[:at], moment[None])[:, 0]
                loop.append(any(overlaps[here[:at]] >= overlap))
            assert moment_recall(found, truth, at, overlap, present).tolist() == loop
    several = np.stack([truth, truth + 100], axis=1)
    assert (moment_recall(found, several, 5, 0.5) == moment_recall(found, truth, 5, 0.5)).all()
    assert moment_recall(np.zeros((3, 0, 2)), truth[:3], 1, 0.5).tolist() == [0, 0, 0]
    assert mean_moment_iou(found, truth)[7] == pytest.approx(moment_iou(found[7, :1], truth[7:8])[0, 0])
    assert mean_moment_iou(np.zeros((3, 0, 2)), truth[:3]).tolist() == [0, 0, 0]


def test_suppression_is_that_of_boxes():
    rng = np.random.default_rng(0)
    for _ in range(30):
        moments = drawn(rng, 15) + np.array([0, 0.5])
        scores = rng.random(15)
        ours = suppress_moments(moments, scores, 0.5)
        assert ours.tolist() == nms(as_boxes(moments), torch.from_numpy(scores), 0.5).tolist()
    assert suppress_moments(np.zeros((0, 2)), [], 0.5).tolist() == []


@pytest.mark.parametrize("case", ["", "--no-boundary-predicted", "--all-boundaries", "--shifted-by-one"])
def test_pk_and_window_difference_of_the_common_implementation(oracle: Any, case: str):
    call = oracle(f"061-dual-contrastive-vts/pk_windowdiff{case}")
    reference, found, k = call["in_reference"], call["in_hypothesis"], int(call["opt_k"])
    assert of.window(reference) == k
    assert of.pk(reference, found) == pytest.approx(float(call["out_pk"]))
    assert of.window_difference(reference, found) == pytest.approx(float(call["out_windowdiff"]))


def test_pk_and_window_difference_of_nltk_on_random_sequences():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size, k = int(rng.integers(4, 30)), int(rng.integers(1, 4))
        r, f = (rng.random((2, size)) < rng.uniform(0.05, 0.6)).astype(int)
        texts = ["".join(map(str, v)) for v in (r, f)]
        assert of.pk(r, f, k) == pytest.approx(pk(texts[0], texts[1], k))
        assert of.window_difference(r, f, k) == pytest.approx(windowdiff(texts[0], texts[1], k))
    assert math.isnan(of.pk([0, 1], [0, 1], 3))
    assert of.pk([0, 0, 0], [0, 0, 0]) == 0.0
    with pytest.raises(ValueError, match="0 or 1"):
        of.pk([0, 2], [0, 1])
    with pytest.raises(ValueError, match="not both"):
        of.pk([0, 1], [0, 1, 0])


def most_matched(r: list[int], f: list[int], tolerance: int) -> int:
    short, long = sorted((r, f), key=len)
    near = lambda chosen: sum(abs(a - b) <= tolerance for a, b in zip(short, chosen, strict=True))  # noqa: E731
    return max(map(near, permutations(long, len(short))), default=0)


def test_boundaries_within_a_tolerance_are_matched_one_to_one_as_many_as_can_be():
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = int(rng.integers(1, 12))
        r, f = rng.random((2, size)) < 0.4
        for tolerance in (0, 1, 2):
            matched, true, found = of.boundary_counts(r, f, tolerance)
            assert (true, found) == (r.sum(), f.sum())
            assert matched == most_matched(np.flatnonzero(r).tolist(), np.flatnonzero(f).tolist(), tolerance)
    assert of.f1_of_counts(1, 2, 2) == 0.5
    assert math.isnan(of.f1_of_counts(0, 0, 0))
