"""Agreement of clusters with classes.

Every function takes `classes` and `clusters`, integers [N] that name them; the names themselves do not matter. Rows
with a negative class or cluster are the caller's to leave out. One class against one cluster agrees perfectly (1);
one cluster for several classes, or the reverse, tells nothing: mutual information and the adjusted scores give 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmflow.plugin import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Table:
    """How many rows each class shares with each cluster: `counts` int64 [classes, clusters], and their names."""

    counts: NDArray[np.int64]
    classes: NDArray[np.int64]
    clusters: NDArray[np.int64]


def contingency(classes: ArrayLike, clusters: ArrayLike) -> Table:
    """Raises `ValueError` for empty or unequal lists, and for NaN or fractions."""
    a, b = (_integers(np.asarray(v)) for v in (classes, clusters))
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"classes {list(a.shape)} and clusters {list(b.shape)} are not both [N] with N of 1 or more")
    names, a = np.unique(a, return_inverse=True)
    groups, b = np.unique(b, return_inverse=True)
    counts = np.bincount(a * len(groups) + b, minlength=len(names) * len(groups))
    return Table(counts.reshape(len(names), len(groups)).astype(np.int64), names, groups)


def best_matching(table: Table) -> dict[int, int]:
    """Class of each matched cluster, one to one, so that most rows agree (Kuhn, 1955)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-table.counts)
    return {int(table.clusters[c]): int(table.classes[r]) for r, c in zip(rows, columns, strict=True)}


def hungarian_accuracy(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Share of rows whose cluster is matched with their class; rows of unmatched clusters are wrong."""
    return _matched(contingency(classes, clusters))


def normalized_mutual_information(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Mutual information over the mean of the two entropies, which is also the V-measure (Rosenberg and Hirschberg,
    2007)."""
    return _nmi(contingency(classes, clusters))


def homogeneity_completeness(classes: ArrayLike, clusters: ArrayLike) -> tuple[float, float]:
    """1 - H(class | cluster) / H(class) and the reverse; 1 where the entropy below is 0."""
    information, a, b = _entropies(contingency(classes, clusters))
    return (information / a if a else 1.0), (information / b if b else 1.0)


def adjusted_mutual_information(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Mutual information less its expectation in random tables with these sums (Vinh et al., 2010); chance is 0."""
    from sklearn.metrics import adjusted_mutual_info_score

    contingency(classes, clusters)
    return float(adjusted_mutual_info_score(np.asarray(classes), np.asarray(clusters)))


def adjusted_rand_index(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Agreement on pairs of rows less its expectation (Hubert and Arabie, 1985); chance is 0."""
    return _ari(contingency(classes, clusters))


def chance_agreement(
    measure: Callable[[ArrayLike, ArrayLike], float],
    classes: ArrayLike,
    clusters: ArrayLike,
    *,
    orders: int = 20,
    at: str = "",
) -> float:
    """The agreement of clusters of these sizes that know nothing of the classes: mean over `orders` random orders."""
    generator = numpy_generator("mmflow_evaluators.clustering", "chance", at)
    own = np.asarray(clusters)
    return float(np.mean([measure(classes, generator.permutation(own)) for _ in range(orders)]))


def _integers(values: NDArray[np.generic]) -> NDArray[np.int64]:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        raise ValueError("classes and clusters are integers")
    return values.astype(np.int64)


def _matched(table: Table) -> float:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-table.counts)
    return float(table.counts[rows, columns].sum() / table.counts.sum())


def _entropies(table: Table) -> tuple[float, float, float]:
    """Mutual information and the two entropies, in nats."""
    total = float(table.counts.sum())
    a, b = table.counts.sum(1) / total, table.counts.sum(0) / total
    row, column = np.nonzero(table.counts)
    joint = table.counts[row, column] / total
    information = float((joint * np.log(joint / (a[row] * b[column]))).sum())
    entropies = [max(0.0, -float((p * np.log(p)).sum())) for p in (a, b)]
    return max(0.0, information), entropies[0], entropies[1]


def _nmi(table: Table) -> float:
    information, a, b = _entropies(table)
    if a + b == 0:
        return 1.0
    return min(1.0, information / ((a + b) / 2))


def _ari(table: Table) -> float:
    counts = table.counts.astype(np.float64)
    pairs = math.comb(int(counts.sum()), 2)
    both, a, b = (float((c * (c - 1) / 2).sum()) for c in (counts, counts.sum(1), counts.sum(0)))
    if pairs == 0 or a == b == pairs or a == b == 0:
        return 1.0
    expected = a * b / pairs
    return (both - expected) / ((a + b) / 2 - expected)
