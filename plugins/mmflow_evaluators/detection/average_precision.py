"""Average precision of detections, as COCO measures it (Lin et al., 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas in square pixels, as COCO cuts them."""


@dataclass(frozen=True)
class ImageMatch:
    """Detections and objects of one class in one image, already compared.

    `overlaps` [D, G] are those of each detection with each object (boxes or masks; with the share of the detection
    for crowds), `scores` [D], `areas_found` [D] and `areas_true` [G] in square pixels, `crowd` bool [G]: regions that
    may be found any number of times, and never count as missed.
    """

    overlaps: NDArray[np.float64]
    scores: NDArray[np.float64]
    areas_found: NDArray[np.float64]
    areas_true: NDArray[np.float64]
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class Hits:
    """Detections of a class over images, best first in each: `matched` and `ignored` bool [overlaps, D], `scores`
    [D], and how many objects there are to find."""

    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    scores: NDArray[np.float64]
    objects: int


def match_image(image: ImageMatch, *, overlaps: Sequence[float] = OVERLAPS, area: str = "all", most: int = 100) -> Hits:
    """Match the `most` best detections of an image, best first, each with the free object it overlaps most.

    A detection takes an object that counts before one that is ignored (a crowd, or of another area); one left
    without a match is wrong unless its own area is outside. Equal scores in the order given; of equal overlaps the
    later object, as COCO's own code does.
    """
    low, high = AREAS[area]
    crowd = image.crowd if len(image.crowd) else np.zeros(len(image.areas_true), bool)
    ignored = crowd | (image.areas_true < low) | (image.areas_true > high)
    order = np.argsort(-image.scores, kind="stable")[:most]
    objects = np.argsort(ignored, kind="stable")
    table = image.overlaps[np.ix_(order, objects)]
    matched = np.zeros((len(overlaps), len(order)), bool)
    left_out = np.zeros((len(overlaps), len(order)), bool)
    for level, wanted in enumerate(overlaps):
        free = np.ones(len(objects), bool)
        for row in range(len(order)):
            best, chosen = min(wanted, 1 - 1e-10), -1
            for column, at in enumerate(objects.tolist()):
                if not free[column] and not crowd[at]:
                    continue
                if chosen >= 0 and not ignored[objects[chosen]] and ignored[at]:
                    break
                if table[row, column] >= best:
                    best, chosen = table[row, column], column
            if chosen >= 0:
                free[chosen] = False
                matched[level, row] = True
                left_out[level, row] = ignored[objects[chosen]]
    own = image.areas_found[order]
    left_out |= ~matched & ((own < low) | (own > high))[None]
    return Hits(matched, left_out, image.scores[order], int((~ignored).sum()))


def join(parts: Sequence[Hits]) -> Hits:
    """The detections of several images."""
    levels = len(parts[0].matched) if parts else len(OVERLAPS)
    none = np.zeros((levels, 0), bool)
    return Hits(
        np.concatenate([none, *[p.matched for p in parts]], axis=1),
        np.concatenate([none, *[p.ignored for p in parts]], axis=1),
        np.concatenate([np.zeros(0), *[p.scores for p in parts]]),
        sum(p.objects for p in parts),
    )


def average_precision(hits: Hits) -> NDArray[np.float64]:
    """AP [overlaps]: mean over 101 recalls of the highest precision at that recall or a higher one.

    NaN where there is no object to find (the class does not count); 0 where nothing is found.
    """
    levels = len(hits.matched)
    if not hits.objects:
        return np.full(levels, math.nan)
    order = np.argsort(-hits.scores, kind="mergesort")
    found = []
    for level in range(levels):
        counts = ~hits.ignored[level][order]
        right = np.cumsum(hits.matched[level][order] & counts)
        wrong = np.cumsum(~hits.matched[level][order] & counts)
        recall = right / hits.objects
        precision = right / np.maximum(right + wrong, np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        # Recalls that are never reached have the precision 0.
        at = np.searchsorted(recall, RECALLS, side="left")
        found.append(np.append(precision, 0.0)[at].mean())
    return np.array(found, dtype=np.float64)


def recall_of(hits: Hits) -> NDArray[np.float64]:
    """Share [overlaps] of the objects that are found at all (AR at the `most` detections that were matched)."""
    if not hits.objects:
        return np.full(len(hits.matched), math.nan)
    return (hits.matched & ~hits.ignored).sum(1) / hits.objects
