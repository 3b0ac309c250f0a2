"""Few rows to learn from: episodes and draws of k rows a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmflow_evaluators.declared import quiet
from mmflow_evaluators.vectors import unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

Classifier = Literal["mean", "neighbor", "linear"]


@dataclass(frozen=True)
class Episode:
    """Places of the rows to learn from and of the rows to be classified, with their classes from 0 on."""

    support: NDArray[np.int64]
    support_class: NDArray[np.int64]
    query: NDArray[np.int64]
    query_class: NDArray[np.int64]


def enough(labels: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Classes (not negative) that have at least `rows` rows."""
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    return names[counts >= rows].astype(np.int64)


def draw_episode(
    labels: NDArray[np.int64], ways: int, shots: int, queries: int, generator: np.random.Generator
) -> Episode:
    """`ways` classes, and of each `shots` rows to learn from and `queries` others (Vinyals et al., 2016).

    Raises `ValueError` where fewer than `ways` classes have `shots + queries` rows.
    """
    names = enough(labels, shots + queries)
    if len(names) < ways:
        raise ValueError(f"{len(names)} classes have {shots + queries} rows, an episode needs {ways}")
    support, query = [], []
    for name in generator.choice(names, ways, replace=False):
        rows = generator.choice(np.flatnonzero(labels == name), shots + queries, replace=False)
        support.append(rows[:shots])
        query.append(rows[shots:])
    classes = np.arange(ways)
    return Episode(
        np.concatenate(support), np.repeat(classes, shots), np.concatenate(query), np.repeat(classes, queries)
    )


def draw_shots(labels: NDArray[np.int64], shots: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of `shots` rows of every class that has so many."""
    rows = [generator.choice(np.flatnonzero(labels == c), shots, replace=False) for c in enough(labels, shots)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))


def classify(
    by: Classifier,
    support: NDArray[np.float64],
    classes: NDArray[np.int64],
    query: NDArray[np.float64],
    c: float = 1.0,
) -> NDArray[np.float64]:
    """Probability [Q, C] of each class for the rows `query` [Q, D], given `support` [S, D] with `classes` 0 .. C - 1.

    `mean`: the class whose mean of unit vectors has the highest cosine (as Snell et al., 2017, with cosines);
    `neighbor`: the class of the row with the highest cosine; `linear`: a logistic regression on unit vectors (as
    Tian et al., 2020). Classes tied for the best share the probability.
    """
    known, asked = unit(support), unit(query)
    count = int(classes.max()) + 1
    if by == "linear":
        from sklearn.linear_model import LogisticRegression

        with quiet():
            model = LogisticRegression(C=c, max_iter=500).fit(known, classes)
        scores = np.full((len(query), count), -np.inf)
        decision = model.predict_proba(asked)
        scores[:, model.classes_.astype(np.int64)] = decision
    elif by == "mean":
        means = unit(np.stack([known[classes == k].mean(0) for k in range(count)]))
        scores = asked @ means.T
    else:
        alike = asked @ known.T
        scores = np.stack([alike[:, classes == k].max(1) for k in range(count)], axis=1)
    best = scores >= scores.max(1, keepdims=True) - 1e-9
    return best / best.sum(1, keepdims=True)


def hits(probability: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability [Q] of the right class."""
    return probability[np.arange(len(classes)), classes]
