"""Shared by the probes: labeled rows to learn from and labeled rows to be tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmflow.plugin import ComponentError, Encoding, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Labeled:
    """Vectors float64 [N, D] with labels int64 [N] and the ids of their rows."""

    vectors: NDArray[np.float64]
    labels: NDArray[np.int64]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: NDArray[Any]) -> Labeled:
        places: list[int] = np.arange(len(self))[index].tolist()
        return Labeled(self.vectors[index], self.labels[index], [self.ids[i] for i in places])


def labeled(encoding: Encoding, labels: Any, ids: Sequence[str], *, where: str) -> Labeled:
    """The rows that are present and have a label; raises `ComponentError` where the vectors are no [N, D]."""
    vectors = encoding.pooled
    if vectors.ndim != 2:
        raise ComponentError(
            f"{where} needs one vector a row, it got {list(vectors.shape[1:])} (axes {', '.join(encoding.axes)})"
        )
    kept = labels >= 0 if encoding.present is None else (labels >= 0) & encoding.present
    index = np.flatnonzero(kept.cpu().numpy())
    if not len(index):
        raise ComponentError(f"{where}: no row has both a label and a value for the encoder")
    return Labeled(
        vectors.double().cpu().numpy()[index],
        labels.cpu().numpy()[index].astype(np.int64),
        [ids[i] for i in index.tolist()],
    )


def split(data: Labeled, share: float, purpose: str) -> tuple[Labeled, Labeled]:
    """Part `data` by the address of each row's id: (kept, held out), about `share` of the rows in the second."""
    from mmflow.plugin import address

    places = {i: address("mmflow_evaluators", purpose, i) for i in data.ids}
    out = np.array([places[i] < share * 2.0**63 for i in data.ids])
    if out.all() or not out.any():
        # So few rows that chance put all on one side: the first by address is held out.
        first = min(places, key=places.__getitem__)
        out = np.array([i == first for i in data.ids])
    return data.rows(~out), data.rows(out)


def accuracy(
    encoder: str, right: NDArray[Any], train: NDArray[np.int64], test: NDArray[np.int64], *, alone: bool
) -> Metric:
    """Share of `right`; chance is the share of the most frequent class of `train` in `test`.

    The metric is `accuracy` where one encoder is probed, `image_accuracy` in the group `image` where several are.
    """
    from mmflow_evaluators.estimates import spoken
    from mmflow_evaluators.ranking import wilson

    rate = float(np.mean(right))
    majority = int(np.bincount(train).argmax())
    name = "accuracy" if alone else f"{encoder.replace('.', '_')}_accuracy"
    group = "" if alone else spoken(encoder)
    chance, spread = float((test == majority).mean()), wilson(rate, len(right))
    return Metric(name, rate, chance, spread=spread, title="accuracy", group=group)
