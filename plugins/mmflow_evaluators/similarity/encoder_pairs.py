"""How alike the encoders see the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Metric, PositiveInt, Tally, default
from mmflow_evaluators.declared import OfSeveral, Refusal, amount

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mmflow_evaluators.estimates import Group

ROWS = 5000


class RepresentationSimilarity(OfSeveral, name="representation_similarity"):
    """Linear CKA, unbiased CKA and mutual k nearest neighbors of each pair of encoders in `of`.

    Over the rows present in both, the first 5000; widths may differ. CKA (Kornblith et al., 2019) is on the vectors
    as they are, neighbors (Huh et al., 2024) are by cosine. Biased CKA of unrelated encoders grows with their width:
    its chance is that of rows in random order; that of unbiased CKA is 0, that of neighbors k / (N - 1), so that
    results for other N or k cannot be compared. Ties for the k-th place count by expectation. Intervals of CKA are
    those of a jackknife over blocks of rows. `k` of N or more is refused.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    example: ClassVar[str] = "{use: representation_similarity, data: test, of: [image, text], k: 10}"

    k: PositiveInt = default(10, description="neighbors of a row")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        rows = tallies["data"].rows
        if rows is not None and rows <= max(self.k, 3):
            said = f"representation_similarity: {amount(rows, 'row')} for k = {self.k}"
            yield "k", said, f"write k: {rows // 4}" if rows > 7 else "name an entry with more rows"

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import group_between, result
        from mmflow_evaluators.vectors import vectors_of

        read = [vectors_of(e, f"representation_similarity of {n}") for n, e in zip(self.of, of, strict=True)]
        metrics: list[Metric] = []
        notes: list[str] = []
        table = np.eye(len(of))
        for i, j in combinations(range(len(of)), 2):
            rows = np.flatnonzero(read[i][1] & read[j][1])
            if len(rows) > ROWS:
                notes.append(f"The first {ROWS} of {len(rows)} rows are compared.")
                rows = rows[:ROWS]
            names = f"{self.of[i]} and {self.of[j]}"
            if len(rows) <= max(self.k, 3):
                raise ComponentError(f"representation_similarity of {names}: {len(rows)} rows for k = {self.k}")
            group = group_between(self.of[i], self.of[j], alone=len(of) == 2)
            found = self._pair(group, read[i][0][rows], read[j][0][rows], rows, names, notes)
            table[i, j] = table[j, i] = found[-1].value
            metrics += found
        measured = result(metrics, list(dict.fromkeys(notes)))
        if len(of) > 2:
            measured.figures["Mutual nearest neighbors"] = {
                "kind": "matrix", "rows": list(map(str, self.of)), "columns": list(map(str, self.of)),
                "values": table.tolist(), "row_title": "encoder", "column_title": "encoder",
            }  # fmt: skip
        return measured

    def _pair(
        self, group: Group, x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.int64], names: str,
        notes: list[str],
    ) -> list[Metric]:  # fmt: skip
        import math

        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import estimate, share
        from mmflow_evaluators.intervals import jackknife_interval
        from mmflow_evaluators.similarity.kernels import linear_cka, unbiased_cka
        from mmflow_evaluators.similarity.neighbors import mutual_knn
        from mmflow_evaluators.vectors import unit

        generator = numpy_generator("mmflow_evaluators.representation_similarity")
        shuffled = [y[generator.permutation(len(y))] for _ in range(5)]
        metrics = []
        for name, measure, chance, bounds in (
            ("linear_cka", linear_cka, float(np.mean([linear_cka(x, s) for s in shuffled])), (0.0, 1.0)),
            ("unbiased_cka", unbiased_cka, 0.0, (-1.0, 1.0)),
        ):
            value = measure(x, y)
            if math.isnan(value):
                notes.append(f"{name} of {names}: the vectors of one of them are all equal.")
                continue
            interval = jackknife_interval(partial(_at, measure, x, y), len(x), at=(name,), bounds=bounds)
            metrics.append(
                estimate(name, value, interval, title=name.replace("_cka", " CKA"), group=group, chance=chance)
            )
        shares = mutual_knn(unit(x), unit(y), self.k)
        chance = self.k / (len(x) - 1)
        return [*metrics, share("mutual_knn", shares, rows, title="mutual kNN", group=group, chance=chance)]


def _at(
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    index: NDArray[np.int64],
) -> float:
    return measure(x[index], y[index])
