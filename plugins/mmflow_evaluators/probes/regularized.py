"""Linear probes whose penalty is chosen on held-out rows of the data learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmflow_evaluators.declared import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT = 0.2
"""Share of the rows to learn from on which penalties are tried."""


@dataclass(frozen=True)
class Rows:
    """Vectors float64 [N, D] with targets [N] (classes, numbers) or [N, K] (several labels), and their ids."""

    vectors: NDArray[np.float64]
    targets: NDArray[Any]
    ids: list[str]

    def at(self, index: NDArray[Any]) -> Rows:
        places = np.arange(len(self.ids))[index]
        return Rows(self.vectors[places], self.targets[places], [self.ids[i] for i in places.tolist()])


def parted(rows: Rows, share: float, purpose: str) -> tuple[Rows, Rows]:
    """(kept, held out): each row on the side that the address of its id says, about `share` in the second; where all
    would fall on one side, the first by address is held out."""
    from mmflow.plugin import address

    places = np.array([address("mmflow_evaluators", purpose, id) for id in rows.ids], dtype=np.float64)
    out = places < share * 2.0**63
    if out.all() or not out.any():
        out = np.arange(len(places)) == int(places.argmin())
    return rows.at(~out), rows.at(out)


@dataclass(frozen=True)
class Chosen:
    """Predictions for the test rows under the penalty that was best on held-out rows, and what each one gave there."""

    predicted: NDArray[np.float64]
    penalty: float
    tried: list[float]


def probe(
    fit: Callable[[Rows, float, NDArray[np.float64]], NDArray[np.float64]],
    measure: Callable[[NDArray[np.float64], NDArray[Any]], float],
    train: Rows,
    test: Rows,
    penalties: Sequence[float],
    purpose: str,
) -> Chosen:
    """Choose a penalty by `measure` (higher is better; of equal ones the first), then learn from all rows of `train`.

    `fit(rows, penalty, vectors)` learns and predicts. Vectors are standardized by the rows learned from.
    """
    tried: list[float] = []
    best = penalties[0]
    if len(penalties) > 1 and len(train.ids) > 2:
        fitting, checking = parted(train, HELD_OUT, purpose)
        tried = [measure(_fitted(fit, fitting, p, checking.vectors), checking.targets) for p in penalties]
        known = [-math.inf if math.isnan(value) else value for value in tried]
        best = penalties[known.index(max(known))]
    return Chosen(_fitted(fit, train, best, test.vectors), best, tried)


def class_scores(rows: Rows, c: float, vectors: NDArray[np.float64], iterations: int = 500) -> NDArray[np.float64]:
    """A logistic regression's class [N] for each row; with one class to learn from, that one."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(rows.targets)) < 2:
        return np.full(len(vectors), float(rows.targets[0]))
    with quiet():
        model = LogisticRegression(C=c, max_iter=iterations).fit(rows.vectors, rows.targets)
        return model.predict(vectors).astype(np.float64)


def agreement(found: NDArray[np.float64], targets: NDArray[Any]) -> float:
    """Share of equal values."""
    return float((found == targets).mean())


def label_scores(rows: Rows, c: float, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """One logistic regression a label: log-odds [N, K]; 0 for a label that all rows, or none, have."""
    from sklearn.linear_model import LogisticRegression

    found = np.zeros((len(vectors), rows.targets.shape[1]))
    for label, column in enumerate(rows.targets.T):
        if 0 < column.sum() < len(column):
            with quiet():
                model = LogisticRegression(C=c, max_iter=500).fit(rows.vectors, column)
            found[:, label] = model.decision_function(vectors)
    return found


def numbers(rows: Rows, alpha: float, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ridge regression's number [N] for each row."""
    from sklearn.linear_model import Ridge

    return np.asarray(Ridge(alpha=alpha).fit(rows.vectors, rows.targets).predict(vectors), dtype=np.float64)


def r_squared(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """1 - squared error over the variance of the truth; 0 for its mean, NaN where the truth is constant."""
    total = float(((truth - truth.mean()) ** 2).sum()) if len(truth) else 0.0
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else math.nan


def mean_average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Mean over labels of the average precision of [N, K] scores; labels that all rows, or none, have do not count."""
    from mmflow_evaluators.binary.scores import average_precision

    found = [average_precision(s, t) for s, t in zip(scores.T, truth.T, strict=True)]
    known = [value for value in found if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _fitted(
    fit: Callable[[Rows, float, NDArray[np.float64]], NDArray[np.float64]], rows: Rows, penalty: float,
    vectors: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    mean, spread = rows.vectors.mean(0), rows.vectors.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    return fit(Rows((rows.vectors - mean) / spread, rows.targets, rows.ids), penalty, (vectors - mean) / spread)
