"""Tracks: against TrackEval on random and adversarial sequences, and by hand."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from mmflow_evaluators.tracking.measures import clear, hota, identity
from mmflow_evaluators.tracking.sequences import Tracks, tracks_of

trackeval = pytest.importorskip("trackeval")


def sequence(seed: int) -> list[tuple[Any, Any, Any]]:
    """Objects that come and go, detections that are lost, switched, doubled and invented."""
    rng = np.random.default_rng(seed)
    frames = []
    switch = rng.permutation(6)
    for time in range(int(rng.integers(1, 25))):
        true = np.flatnonzero(rng.random(6) < 0.7)
        names = true if time < 12 else switch[true]
        kept = rng.random(len(true)) < 0.8
        found = np.concatenate([names[kept], 10 + np.flatnonzero(rng.random(3) < 0.3)])
        alike = rng.random((len(true), len(found))) * 0.6
        for row, (one, name) in enumerate(zip(true, names, strict=True)):
            alike[row, found == name] = rng.choice([0.5, 0.75, rng.uniform(0.3, 1.0), 1.0])
            assert one in true
        frames.append((true * 3 + 1, found, alike))
    if seed == 3:
        frames = [(true, np.zeros(0), np.zeros((len(true), 0))) for true, _, _ in frames]
    if seed == 4:
        frames = [(np.zeros(0), found, np.zeros((0, len(found)))) for _, found, _ in frames]
    if seed == 5:
        frames = [(t, f, np.full((len(t), len(f)), 0.5)) for t, f, _ in frames]
    return frames


def for_trackeval(tracks: Tracks) -> dict[str, Any]:
    a, b = tracks.lengths
    return {
        "num_timesteps": len(tracks.frames), "num_gt_ids": tracks.true, "num_tracker_ids": tracks.found,
        "num_gt_dets": int(a.sum()), "num_tracker_dets": int(b.sum()),
        "gt_ids": [f.true for f in tracks.frames], "tracker_ids": [f.found for f in tracks.frames],
        "similarity_scores": [f.alike for f in tracks.frames],
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(14))
def test_the_numbers_of_trackeval(seed: int):
    tracks = tracks_of(sequence(seed))
    data = for_trackeval(tracks)
    quiet = {"PRINT_CONFIG": False}
    theirs = trackeval.metrics.HOTA().eval_sequence(data)
    ours = hota(tracks)
    assert ours.hota == pytest.approx(float(np.mean(theirs["HOTA"])))
    assert ours.detection == pytest.approx(float(np.mean(theirs["DetA"])))
    assert ours.associated == pytest.approx(float(np.mean(theirs["AssA"])))
    theirs = trackeval.metrics.CLEAR(quiet).eval_sequence(data)
    found = clear(tracks)
    assert (found.matched, found.missed, found.false, found.switches) == (
        theirs["CLR_TP"], theirs["CLR_FN"], theirs["CLR_FP"], theirs["IDSW"]
    )  # fmt: skip
    if found.matched + found.missed:
        assert found.mota == pytest.approx(theirs["MOTA"])
    theirs = trackeval.metrics.Identity(quiet).eval_sequence(data)
    same = identity(tracks)
    assert (same.matched, same.missed, same.false) == (theirs["IDTP"], theirs["IDFN"], theirs["IDFP"])
    assert same.idf1 == pytest.approx(theirs["IDF1"])


def test_sequences_are_joined_by_their_counts():
    parts = [tracks_of(sequence(seed)) for seed in (0, 1, 2)]
    quiet = {"PRINT_CONFIG": False}
    for ours, metric, names in (
        (reduce(add, map(hota, parts)), trackeval.metrics.HOTA(), {"hota": "HOTA", "associated": "AssA"}),
        (reduce(add, map(clear, parts)), trackeval.metrics.CLEAR(quiet), {"mota": "MOTA", "motp": "MOTP"}),
        (reduce(add, map(identity, parts)), trackeval.metrics.Identity(quiet), {"idf1": "IDF1"}),
    ):
        by_sequence = {str(n): metric.eval_sequence(for_trackeval(part)) for n, part in enumerate(parts)}
        theirs = metric.combine_sequences(by_sequence)
        for name, their_name in names.items():
            assert getattr(ours, name) == pytest.approx(float(np.mean(theirs[their_name])))


def test_a_perfect_tracker_and_one_that_swaps_two_identities():
    perfect = tracks_of([([0, 1], [7, 8], np.eye(2))] * 4)
    assert (hota(perfect).hota, clear(perfect).mota, identity(perfect).idf1) == pytest.approx((1, 1, 1))
    swapped = tracks_of([([0, 1], [7, 8], np.eye(2))] * 2 + [([0, 1], [8, 7], np.eye(2))] * 2)
    assert clear(swapped).switches == 2
    assert clear(swapped).mota == pytest.approx(1 - 2 / 8)
    assert identity(swapped).idf1 == pytest.approx(0.5)
    assert hota(swapped).detection == pytest.approx(1)
    assert hota(swapped).associated == pytest.approx(2 / 6)


def test_nothing_to_track_is_said_and_bad_sequences_are_refused():
    empty = tracks_of([([], [], [])] * 3)
    assert all(math.isnan(v) for v in (hota(empty).hota, clear(empty).mota, clear(empty).motp, identity(empty).idf1))
    assert all(math.isnan(v) for v in (hota(tracks_of([])).hota, identity(tracks_of([])).idf1))
    with pytest.raises(ValueError, match="twice in frame 1"):
        tracks_of([([0], [0], [[1]]), ([1, 1], [0], [[1], [1]])])
    for bad in (math.nan, 1.5):
        with pytest.raises(ValueError, match="not from 0 to 1"):
            tracks_of([([0], [0], [[bad]])])
