"""HOTA, CLEAR MOT and identity measures of tracks.

Values are those of one sequence; several are joined by summing their counts (`+`). Ratios of nothing are NaN, but a
sequence with objects of which none is found scores 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmflow_evaluators.tracking.sequences import Tracks

LEVELS = np.arange(0.05, 0.99, 0.05)
"""Similarities at which HOTA matches."""


@dataclass(frozen=True)
class Hota:
    """Counts of HOTA (Luiten et al., 2021) at each of the 19 similarities: matched, missed and false detections, and
    the association accuracy, recall and precision summed over matched detections, each [19]."""

    matched: NDArray[np.float64]
    missed: NDArray[np.float64]
    false: NDArray[np.float64]
    association: NDArray[np.float64]
    association_recall: NDArray[np.float64]
    association_precision: NDArray[np.float64]

    def __add__(self, other: Hota) -> Hota:
        return Hota(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def detection(self) -> float:
        """DetA: matched over matched, missed and false, mean over similarities."""
        return _mean(self.matched, self.matched + self.missed + self.false)

    @property
    def associated(self) -> float:
        """AssA: how well matched detections keep their identity, mean over similarities."""
        return float((self.association / np.maximum(1, self.matched)).mean()) if self._any else math.nan

    @property
    def hota(self) -> float:
        """Geometric mean of the two at each similarity, mean over similarities."""
        if not self._any:
            return math.nan
        detection = self.matched / np.maximum(1, self.matched + self.missed + self.false)
        return float(np.sqrt(detection * self.association / np.maximum(1, self.matched)).mean())

    @property
    def _any(self) -> bool:
        return bool((self.matched + self.missed + self.false).any())


def hota(tracks: Tracks) -> Hota:
    """Matches each frame for the most detections that keep to the identities they share most with (Luiten et al.)."""
    from scipy.optimize import linear_sum_assignment

    lengths_true, lengths_found = tracks.lengths
    shared = np.zeros((tracks.true, tracks.found))
    for frame in tracks.frames:
        rows, columns = frame.alike.sum(1, keepdims=True), frame.alike.sum(0, keepdims=True)
        below = rows + columns - frame.alike
        part = np.where(below > np.finfo(float).eps, frame.alike / np.where(below > 0, below, 1.0), 0.0)
        shared[np.ix_(frame.true, frame.found)] += part
    overlap = shared / np.maximum(lengths_true[:, None] + lengths_found[None] - shared, np.finfo(float).tiny)
    counts = np.zeros((3, len(LEVELS)))
    together = np.zeros((len(LEVELS), tracks.true, tracks.found))
    for frame in tracks.frames:
        a, b = len(frame.true), len(frame.found)
        score = overlap[np.ix_(frame.true, frame.found)] * frame.alike
        rows, columns = linear_sum_assignment(-score)
        for level, wanted in enumerate(LEVELS):
            kept = frame.alike[rows, columns] >= wanted - np.finfo(float).eps
            matched = int(kept.sum())
            counts[:, level] += matched, a - matched, b - matched
            together[level, frame.true[rows[kept]], frame.found[columns[kept]]] += 1
    sums = []
    for below in (
        lengths_true[:, None] + lengths_found[None] - together,
        np.broadcast_to(lengths_true[:, None], together.shape),
        np.broadcast_to(lengths_found[None], together.shape),
    ):
        sums.append((together * together / np.maximum(1, below)).sum((1, 2)))
    return Hota(*counts, *sums)


@dataclass(frozen=True)
class Clear:
    """Counts of CLEAR MOT (Bernardin and Stiefelhagen, 2008): matched, missed and false detections, switches of
    identity, and similarities summed over matches."""

    matched: float
    missed: float
    false: float
    switches: float
    alike: float

    def __add__(self, other: Clear) -> Clear:
        return Clear(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def mota(self) -> float:
        """1 - (missed + false + switches) / objects; below 0 for many false detections."""
        objects = self.matched + self.missed
        return (self.matched - self.false - self.switches) / objects if objects else math.nan

    @property
    def motp(self) -> float:
        """Mean similarity of matches."""
        return self.alike / self.matched if self.matched else math.nan


def clear(tracks: Tracks, threshold: float = 0.5) -> Clear:
    """Matches each frame at a similarity of at least `threshold`, first for the identities of the frame before, then
    for the most similarity. A switch is a match to another identity than the last one this object ever had."""
    from scipy.optimize import linear_sum_assignment

    last = np.full(tracks.true, -1)
    before = np.full(tracks.true, -1)
    total = np.zeros(5)
    for frame in tracks.frames:
        a, b = len(frame.true), len(frame.found)
        keeps = frame.found[None] == before[frame.true][:, None]
        score = np.where(frame.alike >= threshold - np.finfo(float).eps, 1000.0 * keeps + frame.alike, 0.0)
        rows, columns = linear_sum_assignment(-score)
        kept = score[rows, columns] > np.finfo(float).eps
        rows, columns = rows[kept], columns[kept]
        objects, found = frame.true[rows], frame.found[columns]
        switched = (last[objects] >= 0) & (last[objects] != found)
        total += len(rows), a - len(rows), b - len(rows), switched.sum(), frame.alike[rows, columns].sum()
        if a and b:
            last[objects] = found
            before = np.full(tracks.true, -1)
            before[objects] = found
    return Clear(*map(float, total))


@dataclass(frozen=True)
class Identity:
    """Detections whose identities agree under one matching of whole tracks (Ristani et al., 2016)."""

    matched: float
    missed: float
    false: float

    def __add__(self, other: Identity) -> Identity:
        return Identity(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def idf1(self) -> float:
        """2 matched / (objects + detections)."""
        below = 2 * self.matched + self.missed + self.false
        return 2 * self.matched / below if below else math.nan


def identity(tracks: Tracks, threshold: float = 0.5) -> Identity:
    """Match true and found tracks one to one, so that most detections agree at a similarity of `threshold`."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((tracks.true, tracks.found))
    for frame in tracks.frames:
        rows, columns = np.nonzero(frame.alike >= threshold)
        together[frame.true[rows], frame.found[columns]] += 1
    rows, columns = linear_sum_assignment(-together)
    matched = float(together[rows, columns].sum())
    objects, found = (float(lengths.sum()) for lengths in tracks.lengths)
    return Identity(matched, objects - matched, found - matched)


def _mean(above: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    return float((above / np.maximum(1, below)).mean()) if below.any() else math.nan
