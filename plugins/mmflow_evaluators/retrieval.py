"""Retrieval across two encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import (
    Encoding,
    EvaluationResult,
    Evaluator,
    Metric,
    NonNegativeInt,
    PositiveInt,
    RawField,
    Refs,
    Score,
    default,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow_evaluators.ranking import Ranks

FOUND = 5


class Retrieval(Evaluator, name="retrieval"):
    """Recall at K, median rank and mean average precision in both directions between two encoders.

    The right answers of a query are the candidates of its own row (several where one side has a group axis, such
    as five captions an image) and of every row that is equal to it in one of the fields of `match`: with
    `match: caption` an image finds any caption with the same words. Queries without a right answer are left out.
    Ties count by expectation, so that equal scores for all are exactly at chance; scores closer than 1e-6 are
    tied. Chance is exact: the expectation over random orders. The spread is half the 95 % Wilson interval, with
    queries taken as independent, and for the median rank that of a bootstrap over queries.
    """

    example: ClassVar[str] = "{use: retrieval, data: test, of: [image, text], at: [1, 5], match: caption}"

    score: Score = default("cosine")
    at: tuple[PositiveInt, ...] = default((1, 5, 10), min_length=1, description="the K of recall at K")
    match: Refs[RawField] = default((), description="rows that are equal in one of these fields answer each other")
    average_precision: bool = default(False, description="also measure mean average precision (sorts all scores)")
    examples: NonNegativeInt = default(6, le=100, description="queries a direction to show in the report")

    @model_validator(mode="after")
    def _two(self) -> Retrieval:
        if len(self.of) != 2:
            raise ValueError(f"retrieval goes between two encoders; `of` has {len(self.of)}")
        return self

    def evaluate(
        self, a: Encoding, b: Encoding, score: Any, match: tuple[Any, ...], ids: list[str]
    ) -> EvaluationResult:
        from mmflow_evaluators.estimates import spoken
        from mmflow_evaluators.ranking import codes, equal_or_same, fold, rank, score_rows

        left, left_rows = fold(a)
        right, right_rows = fold(b)
        columns = [codes(column, left_rows.device) for column in match]
        measured = EvaluationResult([])
        recalls: list[Metric] = []
        sides = ((self.of[0], left, left_rows), (self.of[1], right, right_rows))
        for swap in (False, True):
            (query, queries, own), (found, candidates, other) = sides[::-1] if swap else sides
            if not len(own) or not len(other):
                raise ValueError(f"retrieval: no row of {query if not len(own) else found} is present in the data")
            direction = f"{query}_to_{found}".replace(".", "_")
            shown = _Examples(self.examples, len(own))
            ranks = rank(
                score_rows(score, queries, candidates, swap=swap),
                equal_or_same(own, other, columns),
                len(other),
                precision=self.average_precision,
                watch=shown.look,
            )
            metrics = self._measure(direction, f"{spoken(query)} → {spoken(found)}", ranks)
            recalls += metrics[: len(self.at)]
            measured.metrics += metrics
            for at, places, good in shown.kept:
                measured.examples.append(
                    {
                        "query": ids[int(own[at])],
                        "field": str(query),
                        "found": [ids[int(other[place])] for place in places],
                        "field_found": str(found),
                        "right": good,
                    }
                )
        chance = sum(m.chance or 0.0 for m in recalls) / len(recalls)
        mean = sum(m.value for m in recalls) / len(recalls)
        measured.metrics.append(Metric("mean_recall", mean, chance))
        return measured

    def _measure(self, direction: str, group: str, ranks: Ranks) -> list[Metric]:
        import numpy as np

        from mmflow_evaluators.ranking import bootstrap_median, wilson

        metrics = []
        for k in self.at:
            rate = float(ranks.hits(k).mean())
            spread = wilson(rate, len(ranks))
            metrics.append(
                Metric(f"{direction}_r{k}", rate, ranks.chance(k), spread=spread, title=f"R@{k}", group=group)
            )
        expected = ranks.expected()
        metrics.append(
            Metric(
                f"{direction}_median_rank", float(np.median(expected)), ranks.chance_median(), better="lower",
                spread=bootstrap_median(expected), title="median rank", group=group,
            )
        )  # fmt: skip
        if ranks.precision is not None:
            value = float(ranks.precision.mean())
            half = 1.959963984540054 * float(ranks.precision.std()) / len(ranks) ** 0.5
            metrics.append(
                Metric(f"{direction}_map", value, ranks.chance_precision(), spread=half, title="mAP", group=group)
            )
        return metrics


class _Examples:
    """Keeps the best candidates of a few queries, evenly spaced, while blocks of scores go by."""

    def __init__(self, count: int, queries: int) -> None:
        count = min(count, queries)
        self.wanted = sorted({round(i * (queries - 1) / max(1, count - 1)) for i in range(count)})
        self.kept: list[tuple[int, list[int], list[bool]]] = []

    def look(self, start: int, scores: Tensor, right: Tensor) -> None:
        for at in self.wanted:
            if start <= at < start + len(scores):
                row = at - start
                places = scores[row].sort(descending=True, stable=True).indices[:FOUND].tolist()
                self.kept.append((at, places, right[row, places].tolist()))
