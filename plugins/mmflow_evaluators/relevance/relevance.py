"""Orders of candidates in which all rows of a class are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    Metric,
    NonNegativeInt,
    PositiveInt,
    Ref,
    Score,
    Tally,
    Tokens,
    default,
)
from mmflow_evaluators.declared import Refusal, too_few
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.estimates import Group
    from mmflow_evaluators.relevance.measures import Measure, Order


class Relevance(Evaluator, name="relevance"):
    """R-precision, mAP@R, mean average precision and NDCG, where every row of a query's class is a right answer.

    With one encoder in `of`, each row searches the others; with two, each side searches the other. `labels` holds a
    class a row, or several: then a candidate gains as many as it shares with the query, or, with `differing`, counts
    as right where the two sets differ in at most so many labels (plausible matches; Chun et al., 2021). R is the
    number of right candidates (mAP@R: Musgrave et al., 2020). NDCG is of the first `at`; it is left out, and this
    said, for an `at` beyond the candidates. Ties count by expectation, so that equal scores are exactly at chance.
    Queries without a right candidate are left out. Intervals are those of the mean over queries, by query.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": (*CLASS, "labels")}
    example: ClassVar[str] = "{use: relevance, data: test, of: [image, text], labels: label, at: [10]}"

    labels: Ref[Labels]
    score: Score = default("cosine")
    at: tuple[PositiveInt, ...] = default((10,), description="the first so many that NDCG looks at")
    differing: NonNegativeInt | None = default(None, description="labels in which a right candidate may differ")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    @model_validator(mode="after")
    def _sides(self) -> Relevance:
        if len(self.of) not in (1, 2):
            raise ValueError(f"`of` names one encoder or two; it has {len(self.of)}")
        return self

    def evaluate(self, *of: Encoding, labels: Tensor | Tokens, score: Any) -> EvaluationResult:

        from mmflow_evaluators.estimates import group_between, result
        from mmflow_evaluators.ranking import fold

        sets = _sets(labels)
        sides = [(name, *fold(encoding)) for name, encoding in zip(self.of, of, strict=True)]
        metrics: list[Metric] = []
        notes: list[str] = []
        pairs = [(0, 0)] if len(sides) == 1 else [(0, 1), (1, 0)]
        for i, j in pairs:
            (query, queries, own), (found, candidates, other) = sides[i], sides[j]
            if len(own) < 1 or len(other) < (2 if i == j else 1):
                raise ComponentError(f"relevance of {query} in {found}: too few rows are present")
            a, b = (sets[rows.cpu().numpy()] for rows in (own, other))
            group = group_between(str(query), str(found), alone=len(sides) == 1, sign="→")
            blocks = self._orders(score, queries, candidates, a, b, swap=i > j, same=i == j)
            metrics += self._measured(group, blocks, own.cpu().numpy(), len(other) - (i == j), notes)
        return result(metrics, notes, "relevance")

    def _orders(
        self, score: Any, queries: Encoding, candidates: Encoding, a: NDArray[np.int64], b: NDArray[np.int64],
        *, swap: bool, same: bool,
    ) -> list[tuple[Order, NDArray[np.bool_]]]:  # fmt: skip
        import numpy as np

        from mmflow_evaluators.ranking import score_rows
        from mmflow_evaluators.relevance.measures import order_of, shared_labels, within_hamming

        orders = []
        for start, block in score_rows(score, queries, candidates, swap=swap):
            s = block.double().cpu().numpy()
            part = a[start : start + len(s)]
            labeled = (part.max(1) > 0)[:, None] & (b.max(1) > 0)[None]
            gains = (
                shared_labels(part, b) if self.differing is None else within_hamming(part, b, self.differing) & labeled
            ).astype(np.float64)
            if same:
                rows = np.arange(len(s))
                s[rows, rows + start] = -np.inf
                gains[rows, rows + start] = 0
            orders.append((order_of(s, gains), gains.any(1)))
        return orders

    def _measured(
        self, group: Group, orders: list[tuple[Order, NDArray[np.bool_]]], rows: NDArray[np.int64], candidates: int,
        notes: list[str],
    ) -> list[Metric]:  # fmt: skip
        import numpy as np

        from mmflow_evaluators.estimates import share
        from mmflow_evaluators.relevance import measures as of

        asked = np.concatenate([answered for _, answered in orders])
        if not asked.any():
            notes.append(f"{group.heading or 'relevance'}: no query has a right candidate.")
            return []
        if not asked.all():
            notes.append(f"{group.heading or 'relevance'}: {(~asked).sum()} queries have no right candidate.")
        wanted: list[tuple[str, str, Measure]] = [
            ("r_precision", "R-precision", of.r_precision),
            ("map_at_r", "mAP@R", of.map_at_r),
            ("map", "mAP", of.average_precision),
        ]
        for k in self.at:
            if k > candidates:
                notes.append(f"NDCG@{k} is not measured: a query has {candidates} candidates.")
            else:
                wanted.append((f"ndcg{k}", f"NDCG@{k}", partial(of.ndcg, k=k)))
        metrics = []
        for name, title, measure in wanted:
            values = np.concatenate([measure(order) for order, _ in orders])[asked]
            chance = np.concatenate([of.chance(measure, order) for order, _ in orders])[asked]
            metrics.append(share(name, values, rows[asked], title=title, group=group, chance=float(chance.mean())))
        return metrics


def _sets(labels: Tensor | Tokens) -> NDArray[np.int64]:
    """Labels as a multi-hot array int64 [N, K]; rows without a label are empty."""
    import numpy as np

    if isinstance(labels, Tokens):
        values, there = labels.values.cpu().numpy(), labels.mask.cpu().numpy()
    else:
        values = labels.cpu().numpy().reshape(len(labels), -1)
        there = values >= 0
    hot = np.zeros((len(values), max(1, int(values.max(initial=0)) + 1)), np.int64)
    rows = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    hot[rows[there], values[there]] = 1
    return hot
