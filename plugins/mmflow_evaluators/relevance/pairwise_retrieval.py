"""Retrieval between all pairs of several spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    Metric,
    PositiveInt,
    Score,
    Tally,
    default,
)
from mmflow_evaluators.declared import OfSeveral, Refusal, amount, too_few

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class PairwiseRetrieval(OfSeveral, name="pairwise_retrieval"):
    """Recall at K from every encoder in `of` to every other one, and the mean of all.

    For spaces of three and more modalities. The right answers of a query are the candidates of its own row and those
    of equal texts, which the metric's line says where texts repeat. Rows that lack one of the two are left out of that
    pair, as queries and as candidates. Ties count by expectation; chance is exact; intervals are Wilson's, by row. A K
    of all candidates or more is not measured, which is said.
    """

    example: ClassVar[str] = "{use: pairwise_retrieval, data: test, of: [image, text, sound], at: [1]}"

    score: Score = default("cosine")
    at: tuple[PositiveInt, ...] = default((1, 5), min_length=1, description="the K of recall at K")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def evaluate(self, *of: Encoding, score: Any, texts_of: Sequence[Any] = ()) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import estimate, group_between, result, share
        from mmflow_evaluators.matching import equal_texts, same_content, text_side
        from mmflow_evaluators.ranking import fold

        folded = [fold(encoding) for encoding in of]
        contents = [text_side(text, side) for text, side in zip(texts_of or [None] * len(of), of, strict=True)]
        metrics: list[Metric] = []
        notes: list[str] = []
        tables = {k: np.full((len(of), len(of)), np.nan) for k in self.at}
        for i, j in permutations(range(len(of)), 2):
            query, found = self.of[i], self.of[j]
            own, other = (folded[side][1].cpu().numpy() for side in (i, j))
            keep_own, keep_other = np.isin(own, other), np.isin(other, own)
            if not keep_own.any():
                raise ComponentError(f"pairwise_retrieval: no row has both {query} and {found}")
            group = group_between(query, found, sign="→")
            right = same_content(folded[i][1], folded[j][1], (), contents[i], contents[j])
            said = equal_texts(contents[i], contents[j])
            for k, values, chance in self._hits(
                score, folded[i][0], folded[j][0], right, keep_own, keep_other, swap=i > j
            ):
                if k >= keep_other.sum():
                    notes.append(f"{group.heading}: R@{k} of {amount(int(keep_other.sum()), 'candidate')} is always 1.")
                    continue
                tables[k][i, j] = values[keep_own].mean()
                hits, rows = values[keep_own], own[keep_own]
                metrics.append(share(f"r{k}", hits, rows, title=f"R@{k}{said}", group=group, chance=chance))
        measured = result(metrics, notes, "pairwise_retrieval")
        for k, table in tables.items():
            cells = table[~np.eye(len(of), dtype=bool)]
            if np.isnan(cells).any():
                continue
            chances = [m.chance or 0.0 for m in metrics if m.name.endswith(f"_r{k}")]
            mean = estimate(f"mean_r{k}", cells.mean(), title=f"mean R@{k}", chance=float(np.mean(chances)))
            measured.metrics.append(mean)
            measured.figures[f"R@{k} from row to column"] = {
                "kind": "matrix", "rows": list(map(str, self.of)), "columns": list(map(str, self.of)),
                "values": np.nan_to_num(table).tolist(), "row_title": "query", "column_title": "found",
            }  # fmt: skip
        return measured

    def _hits(
        self, score: Any, queries: Encoding, candidates: Encoding, right: Callable[[int, int], Tensor],
        asked: NDArray[np.bool_], kept: NDArray[np.bool_], *, swap: bool,
    ) -> list[tuple[int, NDArray[np.float64], float]]:  # fmt: skip
        """For each K: hits of every query, and chance."""
        import numpy as np

        from mmflow_evaluators.choice.scores import top_hits
        from mmflow_evaluators.ranking import score_rows

        found: dict[int, list[NDArray[np.float64]]] = {k: [] for k in self.at}
        chances: dict[int, list[NDArray[np.float64]]] = {k: [] for k in self.at}
        for start, block in score_rows(score, queries, candidates, swap=swap):
            s = block.double().cpu().numpy()[:, kept]
            good = right(start, len(s)).cpu().numpy()[:, kept]
            for k in self.at:
                found[k].append(top_hits(s, good, k))
                chances[k].append(top_hits(np.zeros_like(s), good, k))
        joined = {k: (np.concatenate(found[k]), np.concatenate(chances[k])) for k in self.at}
        return [(k, hits, float(by_chance[asked].mean())) for k, (hits, by_chance) in joined.items()]
