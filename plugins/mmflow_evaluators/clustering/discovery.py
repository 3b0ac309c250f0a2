"""Classes found among rows of which some belong to classes known before (generalized category discovery)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmflow_evaluators.clustering.agreement import best_matching, contingency

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class DiscoveryHits:
    """`hits` bool [N] of all rows under one matching, `old` bool [N] where the row's class was known before."""

    hits: NDArray[np.bool_]
    old: NDArray[np.bool_]

    @property
    def accuracies(self) -> tuple[float, float, float]:
        """Accuracy of all, old and new rows; NaN where there is none."""
        parts = (self.hits, self.hits[self.old], self.hits[~self.old])
        return tuple(float(p.mean()) if len(p) else math.nan for p in parts)  # pyright: ignore[reportReturnType]


def discovery_hits(classes: ArrayLike, clusters: ArrayLike, known: ArrayLike) -> DiscoveryHits:
    """Match clusters and classes once over all rows, then look at old and new ones apart (Vaze et al., 2022).

    `classes`, `clusters` int [N]; `known` lists the classes known before. A matching for old and new rows apart would
    let one cluster count for two classes.
    """
    matching = best_matching(contingency(classes, clusters))
    truth = np.asarray(classes)
    found = np.array([matching.get(int(c), -1) for c in np.asarray(clusters)])
    matched = np.array([int(c) in matching for c in np.asarray(clusters)])
    return DiscoveryHits(matched & (found == truth), np.isin(truth, np.asarray(known)))


def seeded_kmeans(
    rows: NDArray[np.float64], classes: NDArray[np.int64], clusters: int, generator: np.random.Generator,
    *, rounds: int = 100, starts: int = 10,
) -> NDArray[np.int64]:  # fmt: skip
    """k-means where rows with a class stay with it (Basu et al., 2002, constrained; Vaze et al., 2022).

    `rows` [N, D], `classes` int [N] from 0 without gaps, negative for rows to be clustered. Clusters 0.. are those of
    the classes, the others start by k-means++. Returns int [N] of the start with the lowest sum of squared distances;
    of equally near centers, the first. Raises `ValueError` for fewer clusters than classes or more than rows.
    """
    known = int(classes.max(initial=-1)) + 1
    if not known <= clusters <= len(rows):
        raise ValueError(f"{clusters} clusters for {known} known classes and {len(rows)} rows")
    free = classes < 0
    means = np.stack([rows[classes == c].mean(0) for c in range(known)]) if known else np.zeros((0, rows.shape[1]))
    best, lowest = np.zeros(len(rows), np.int64), math.inf
    for _ in range(starts if clusters > known else 1):
        centers = _spread(rows[free], means, clusters, generator)
        previous = np.full(len(rows), -1)
        assigned = previous
        for _ in range(rounds):
            assigned = np.where(free, _squared(rows, centers).argmin(1), classes)
            if (assigned == previous).all():
                break
            previous = assigned
            for c in np.unique(assigned):
                centers[c] = rows[assigned == c].mean(0)
        cost = float(((rows - centers[assigned]) ** 2).sum())
        if cost < lowest:
            best, lowest = assigned, cost
    return best.astype(np.int64)


def _spread(
    rows: NDArray[np.float64], centers: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """More centers up to `count`, each a row drawn with the probability of its squared distance (k-means++)."""
    centers = centers.copy()
    while len(centers) < count:
        weight = _squared(rows, centers).min(1) if len(centers) else np.ones(len(rows))
        total = weight.sum()
        chosen = generator.choice(len(rows), p=weight / total if total > 0 else None)
        centers = np.concatenate([centers, rows[chosen : chosen + 1]])
    return centers


def _squared(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances [N, K]."""
    distances = (rows**2).sum(1)[:, None] - 2 * rows @ centers.T + (centers**2).sum(1)
    return np.maximum(distances, 0.0)
