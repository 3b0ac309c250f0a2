"""A second, better score for the candidates that the first one puts on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, PositiveInt, Score, Tally, default
from mmflow_evaluators.declared import OfTwo, Refusal, amount, too_few

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAIRS = 4096


class Reranking(OfTwo, name="reranking"):
    """Recall at K of the first score, and after the second one has ordered its `top` candidates again.

    Cheap vectors search, a costly score (tokens, sequences) decides. `of` names the encoders of queries and of
    candidates; the right answers of a query are the candidate of its own row and those of equal texts, which the
    metric's line says where texts repeat. A right candidate that the first score does not put among the `top` cannot
    be found: `reachable` is the share that it does. Ties count by expectation; the `top` of tied candidates are those
    of the first rows. Intervals are Wilson's. A K of all candidates or more is not measured, which is said.
    """

    example: ClassVar[str] = "{use: reranking, data: test, of: [text, image], score: cosine, second: maxsim, top: 50}"

    score: Score = default("cosine", description="finds the candidates")
    second: Score = default(..., description="orders the candidates found")
    top: PositiveInt = default(50, description="candidates of a query that the second score sees")
    at: tuple[PositiveInt, ...] = default((1, 5), min_length=1, description="the K of recall at K")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def evaluate(
        self, queries: Encoding, candidates: Encoding, score: Any, second: Score, texts_of: Sequence[Any] = (None, None)
    ) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.choice.scores import top_hits
        from mmflow_evaluators.estimates import result, share
        from mmflow_evaluators.matching import equal_texts, same_content, text_side
        from mmflow_evaluators.ranking import fold, score_rows
        from mmflow_evaluators.relevance.measures import reranked

        (a, own), (b, other) = fold(queries), fold(candidates)
        contents = [text_side(text, side) for text, side in zip(texts_of, (queries, candidates), strict=True)]
        right = same_content(own, other, (), *contents)(0, len(own)).cpu().numpy()
        asked = right.any(1)
        if not asked.any():
            raise ComponentError("reranking: no query has its own candidate")
        top = min(self.top, len(other))
        hits: dict[str, list[NDArray[np.float64]]] = {}
        for start, block in score_rows(score, a, b, swap=False):
            first = block.double().cpu().numpy()
            places = np.argsort(-first, axis=1, kind="stable")[:, :top]
            again = reranked(first, self._second(second, a, b, start, places), places)
            good = right[start : start + len(first)]
            reached = np.take_along_axis(good, places, axis=1).max(1).astype(np.float64)
            hits.setdefault("reachable", []).append(np.asarray(reached))
            for k in self.at:
                hits.setdefault(f"first_r{k}", []).append(top_hits(first, good, k))
                hits.setdefault(f"r{k}", []).append(top_hits(again, good, k))
        equal = np.zeros(right[asked].shape)
        chances = {k: top_hits(equal, right[asked], k).mean() for k in (*self.at, top)}
        said = equal_texts(*contents)
        there = amount(len(other), "candidate")
        notes = [f"R@{k} of {there} is always 1." for k in self.at if k >= len(other)]
        if top >= len(other):
            notes.append(f"The second score orders all of {there}: every one is reachable.")
        rows = own.cpu().numpy()[asked]
        metrics = []
        for name, parts in hits.items():
            k = 0 if name == "reachable" else int(name.rpartition("r")[2])
            if (k or top) >= len(other):
                continue
            values = np.concatenate(parts)[asked]
            title = "reachable" if not k else f"R@{k} of the first score" if name.startswith("first") else f"R@{k}"
            metrics.append(share(name, values, rows, title=f"{title}{said}", chance=float(chances[k or top])))
        return result(metrics, notes, "reranking")

    def _second(
        self, second: Score, a: Encoding, b: Encoding, start: int, places: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Second scores [b, top] of the queries from `start` on with their candidates at `places`."""
        import numpy as np
        import torch

        rows = np.repeat(np.arange(start, start + len(places)), places.shape[1])
        found = []
        for at in range(0, len(rows), PAIRS):
            queries = a.rows(torch.from_numpy(rows[at : at + PAIRS]))
            candidates = b.rows(torch.from_numpy(places.reshape(-1)[at : at + PAIRS]))
            found.append(second.pairs(queries, candidates).double().cpu().numpy())
        return np.concatenate(found).reshape(places.shape)
