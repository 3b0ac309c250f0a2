"""Retrieval across two encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    Metric,
    NonNegativeInt,
    PositiveInt,
    RawField,
    Refs,
    Score,
    Tally,
    default,
)
from mmflow_evaluators.coded import Codes, coded_rows
from mmflow_evaluators.declared import OfTwo, Refusal, amount, too_few

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow_evaluators.estimates import Group
    from mmflow_evaluators.matching import TextSide
    from mmflow_evaluators.ranking import Ranks

FOUND = 5
TIED = 0.05
"""Share of queries with a tie from which recall suffers."""


class Retrieval(OfTwo, name="retrieval"):
    """Recall at K, median rank and mean average precision in both directions between two encoders.

    The right answers of a query are the candidates of its own row (several where one side has a group axis, such
    as five captions an image) and those that are equal by `match`. By default (`auto`) equal texts are equal answers,
    where an encoder reads a text alone: an image finds any caption with the words of its own, and the metric's line
    says so where texts repeat. With fields, every row that is equal in one of them answers; with `[]` none but the own
    does. Queries without a right answer are left out. Examples show one candidate for each distinct text.
    Ties count by expectation, so that equal scores for all are exactly at chance; scores closer than 1e-6 are
    tied. Chance is exact: the expectation over random orders. A K of all candidates or more is not measured, which
    is said. `codes` says how candidates are stored, in either direction. Intervals are Wilson's, by row of the data,
    and for the median rank those of a bootstrap over queries.
    """

    example: ClassVar[str] = "{use: retrieval, data: test, of: [image, text], at: [1, 5], match: caption}"

    score: Score = default("cosine")
    at: tuple[PositiveInt, ...] = default((1, 5, 10), min_length=1, description="the K of recall at K")
    match: Literal["auto"] | Refs[RawField] = default(
        "auto", description="rows that are equal in one of these fields answer each other; auto: equal texts do"
    )
    codes: Codes | None = default(None, description="store the candidates in few bytes: {to: int8} or {to: binary}")
    average_precision: bool = default(False, description="also measure mean average precision (sorts all scores)")
    examples: NonNegativeInt = default(6, le=100, description="queries a direction to show in the report")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def evaluate(
        self, a: Encoding, b: Encoding, score: Any, match: Any, ids: list[str], model: Any, texts_of: tuple[Any, ...]
    ) -> EvaluationResult:
        from mmflow_evaluators.estimates import group_between, mean_of
        from mmflow_evaluators.matching import same_content, text_side
        from mmflow_evaluators.ranking import codes, fold, rank, score_rows

        left, left_rows = fold(a)
        right, right_rows = fold(b)
        auto = match == "auto"
        columns = [] if auto else [codes(column, left_rows.device) for column in match]
        contents = [text_side(text, side) for text, side in zip(texts_of, (a, b), strict=True)]
        equal = _equal_texts(contents, [model.reads(name)[0] for name in self.of]) if auto else {}
        measured = EvaluationResult([])
        recalls: list[Metric] = []
        measured.notes += [
            f"Equal {field} is an equal answer (match: auto): {count:,} of {amount(len(ids), 'row')} share theirs."
            for field, count in equal.items()
        ]
        sides = ((self.of[0], left, left_rows, contents[0]), (self.of[1], right, right_rows, contents[1]))
        for swap in (False, True):
            (query, queries, own, asked), (found, candidates, other, known) = sides[::-1] if swap else sides
            if not len(own) or not len(other):
                raise ComponentError(f"retrieval: no row of {query if not len(own) else found} is present in the data")
            group = group_between(query, found, sign="→")
            at = [k for k in self.at if k < len(other)]
            beyond = [f"R@{k}" for k in self.at if k >= len(other)]
            if beyond:
                measured.notes.append(
                    f"{group.heading}: {', '.join(beyond)} of {amount(len(other), 'candidate')} is 1."
                )
            shown = _Examples(self.examples, len(own), None if known is None else known.of_members)
            coded = None if self.codes is None else coded_rows(score, queries, candidates, self.codes)
            ranks = rank(
                coded or score_rows(score, queries, candidates, swap=swap),
                same_content(own, other, columns, asked if auto else None, known if auto else None),
                len(other),
                precision=self.average_precision,
                watch=shown.look,
            )
            said = f" (equal {' or '.join(equal)})" if equal else ""
            metrics = self._measure(group, ranks, at, own.cpu().numpy()[ranks.queries], said)
            recalls += metrics[: len(at)]
            measured.remarks += _tied(ranks, group.heading, *model.reads(found))
            measured.metrics += metrics
            for place, places, good in shown.kept:
                measured.examples.append(
                    {
                        "query": ids[int(own[place])],
                        "field": str(query),
                        "found": [ids[int(other[each])] for each in places],
                        "field_found": str(found),
                        "right": good,
                    }
                )
        if not recalls:
            raise ComponentError(f"retrieval: {' '.join(measured.notes)}", hint="write a lower K in `at`, or more rows")
        measured.metrics.append(mean_of("mean_recall", recalls))
        return measured

    def _measure(self, group: Group, ranks: Ranks, at: list[int], rows: Any, said: str) -> list[Metric]:
        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, share

        metrics = []
        for k in at:
            hits, chance = ranks.hits(k), ranks.chance(k)
            metrics.append(share(f"r{k}", hits, rows, title=f"R@{k}{said}", group=group, chance=chance))
        expected = ranks.expected()
        metrics.append(
            bootstrapped(
                "median_rank", lambda i: float(np.median(expected[i])), len(expected), bounds=None, groups=rows,
                title=f"median rank{said}", group=group, chance=ranks.chance_median(), better="lower",
            )
        )  # fmt: skip
        if ranks.precision is not None:
            chance = ranks.chance_precision()
            metrics.append(share("map", ranks.precision, rows, title=f"mAP{said}", group=group, chance=chance))
        return metrics


def _tied(ranks: Ranks, heading: str, field: str, plain: bool) -> Iterator[str]:
    """A remark where many wrong answers have the very score of the right one, as those with equal content have."""
    tied, others = int((ranks.tied > 0).sum()), ranks.candidates - ranks.right
    # Where all are equal, the vectors are one, and there is nothing to match.
    if tied >= TIED * len(ranks) and not (ranks.tied == others).all():
        equal = f"`match: {field}` counts" if plain else "`match` with a field that they share counts"
        yield (
            f"{heading}: for {tied:,} of {amount(len(ranks), 'query')} a wrong candidate has the very score of the "
            f"right one, as rows of equal {field or 'content'} have; {equal} those as right"
        )


def _equal_texts(contents: Sequence[TextSide | None], fields: Sequence[str]) -> dict[str, int]:
    """By the field of each side that holds texts which repeat, the number of rows that share theirs."""
    pairs = zip(fields, contents, strict=True)
    found = {field: content.sharing for field, content in pairs if content is not None}
    return {field: count for field, count in found.items() if count}


class _Examples:
    """Keeps the best candidates of a few queries, evenly spaced, while blocks of scores go by.

    Of candidates with one number in `contents` [M] the best is kept: equal texts would say the same thing again.
    """

    def __init__(self, count: int, queries: int, contents: Tensor | None) -> None:
        self.contents = contents
        count = min(count, queries)
        self.wanted = sorted({round(i * (queries - 1) / max(1, count - 1)) for i in range(count)})
        self.kept: list[tuple[int, list[int], list[bool]]] = []

    def look(self, start: int, scores: Tensor, right: Tensor) -> None:
        for at in self.wanted:
            if start <= at < start + len(scores):
                row = at - start
                places = self._distinct(scores[row].sort(descending=True, stable=True).indices)
                self.kept.append((at, places, right[row, places].tolist()))

    def _distinct(self, order: Tensor) -> list[int]:
        """The first places of an order, one for each content."""
        if self.contents is None:
            return order[:FOUND].tolist()
        found: dict[int, int] = {}
        # Few contents may fill many places.
        for place, content in zip(order.tolist(), self.contents[order].tolist(), strict=True):
            found.setdefault(content, place)
            if len(found) == FOUND:
                break
        return list(found.values())
