"""Choosing the right one of a row's own candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    ItemScores,
    Labels,
    Metric,
    RawField,
    Ref,
    Score,
    default,
)
from mmflow_evaluators.declared import OfTwo, Refusal, not_grouped
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class MultipleChoice(OfTwo, name="multiple_choice"):
    """How often the right one of a row's candidates scores highest with the row: captions of an image, images of a
    caption, answers to a question.

    `of` names the encoder of the rows and that of the candidates, which have a group axis (a field that holds a list
    a row). `right` names the field with the place of the right candidate, from 0; without it the first is right.
    Absent candidates are not chosen; rows with fewer than two, or without the right one, are left out. Ties count by
    expectation, also in the mean rank. With `together`, rows that are equal in this field are right only if all of
    them are (`together_accuracy`). Chance is exact, one over the number of candidates; the interval is Wilson's.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"right": CLASS, "by": CLASS}
    example: ClassVar[str] = "{use: multiple_choice, data: test, of: [image, captions], right: answer}"

    right: Ref[Labels] | None = default(None, description="the place of the right candidate; the first without it")
    together: Ref[RawField] | None = default(None, description="rows equal in this field must all be right")
    by: Ref[Labels] | None = default(None, description="kinds of rows that the report tells apart")
    score: Score = default("cosine")

    def refuses_encodings(self, *of: Encoding) -> Iterator[Refusal]:
        yield from not_grouped(self.use, self.of, of, (1, 2))

    def evaluate(
        self, rows: Encoding, candidates: Encoding, right: Tensor | None, together: Any, by: Tensor | None,
        score: Score, model: Any,
    ) -> EvaluationResult:  # fmt: skip
        import numpy as np

        from mmflow_evaluators.choice.grouped import scores_of_members
        from mmflow_evaluators.choice.scores import all_right, choice_hits, mean_rank
        from mmflow_evaluators.estimates import bootstrapped, result, share
        from mmflow_evaluators.ranking import codes

        scores, present = scores_of_members(score, rows, candidates, f"multiple_choice of {self.of[1]}")
        places = np.zeros(len(scores), np.int64) if right is None else right.cpu().numpy().reshape(-1)
        if len(places) and places.max() >= scores.shape[1]:
            raise ComponentError(
                f"multiple_choice: the right answer is number {places.max()} (from 0) of {scores.shape[1]} candidates"
            )
        hits, chances = choice_hits(scores, places, present)
        asked = ~np.isnan(hits)
        if not asked.any():
            raise ComponentError("multiple_choice: no row has the right candidate beside a wrong one")
        hit, chance = hits[asked], chances[asked]
        notes = [] if asked.all() else [f"{(~asked).sum()} of {len(asked)} rows have nothing to choose from."]
        asked_rows = np.flatnonzero(asked)
        metrics = [share("accuracy", hit, asked_rows, chance=float(chance.mean()))]
        ranks = mean_rank(scores, places, present)[asked]
        middle = float((present[asked].sum(1) + 1).mean() / 2)
        metrics.append(
            bootstrapped(
                "mean_rank", lambda i: ranks[i].mean(), len(ranks), bounds=None, chance=middle, better="lower",
                items_of=ItemScores(ranks, asked_rows),
            )
        )  # fmt: skip
        if together is not None:
            groups = codes(together, "cpu").numpy()
            metrics.append(self._together(all_right(hits, groups)[0], all_right(chances, groups)[0]))
        measured = result(metrics, notes)
        if by is not None:
            measured.figures["Accuracy by kind"] = _by_kind(hits, by.cpu().numpy(), model.names("by"), chance.mean())
        return measured

    def _together(self, hits: NDArray[np.float64], chances: NDArray[np.float64]) -> Metric:
        from mmflow_evaluators.estimates import estimate
        from mmflow_evaluators.intervals import share_interval

        return estimate("together_accuracy", hits.mean(), share_interval(hits), chance=float(chances.mean()))


def _by_kind(
    hits: NDArray[np.float64], kinds: NDArray[np.int64], names: tuple[str, ...], chance: float
) -> dict[str, Any]:
    import numpy as np

    shown = [kind for kind in np.unique(kinds[~np.isnan(hits)]).tolist() if kind >= 0]
    rows = [hits[(kinds == kind) & ~np.isnan(hits)] for kind in shown]
    return {
        "kind": "bars", "labels": [names[k] if k < len(names) else str(k) for k in shown],
        "values": [float(r.mean()) for r in rows], "counts": [len(r) for r in rows], "chance": float(chance),
    }  # fmt: skip
