"""Moments that a query names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import (
    ComponentError,
    EvaluationResult,
    Evaluator,
    PositiveFloat,
    PositiveInt,
    RawField,
    Ref,
    default,
)
from mmflow_evaluators.reading import ROWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OVERLAPS = (0.3, 0.5, 0.7)


class MomentRetrieval(Evaluator, name="moment_retrieval"):
    """R@k at IoU and mean IoU of moments found in a sequence (Gao et al., 2017).

    `found` names a field or column with rows [start, end] a sample, best first, or [start, end, score]; `truth` one
    with [start, end], or several rows of which any may be found. With `suppress`, moments that overlap a better one by
    more are left out first. A sample without moments found is missed. Chance is that of the moments found for other
    samples, the mean over ten random orders; intervals are Wilson's.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"found": ROWS, "truth": ROWS}
    example: ClassVar[str] = "{use: moment_retrieval, data: test, found: search.moments, truth: moment, at: [1, 5]}"

    found: Ref[RawField] = default(..., description="moments found, a row each")
    truth: Ref[RawField] = default(..., description="the true moment, or moments")
    at: tuple[PositiveInt, ...] = default((1, 5), min_length=1, description="the k of R@k")
    overlaps: tuple[PositiveFloat, ...] = default(OVERLAPS, min_length=1, description="IoU from which a moment counts")
    suppress: PositiveFloat | None = default(None, le=1, description="overlap with a better moment that leaves one out")

    def evaluate(self, found: Any, truth: Any) -> EvaluationResult:
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import result, share
        from mmflow_evaluators.ragged import ragged

        moments = [self._ordered(row) for row in ragged(found, (2, 3), "moment_retrieval (found)")]
        right = ragged(truth, (2,), "moment_retrieval (truth)")
        asked = [i for i, row in enumerate(right) if row is not None and len(row)]
        if not asked:
            raise ComponentError("moment_retrieval: no sample has a true moment")
        wanted = [right[i] for i in asked]
        kept = [moments[i] for i in asked]
        notes = [f"{len(right) - len(asked)} samples have no true moment."] if len(asked) < len(right) else []
        if empty := sum(not len(row) for row in kept):
            notes.append(f"For {empty} of {len(kept)} samples no moment was found.")
        generator = numpy_generator("mmflow_evaluators.moment_retrieval")
        orders = [generator.permutation(len(kept)) for _ in range(10)]
        shuffled = [self._measured([kept[i] for i in order], wanted) for order in orders]
        metrics = []
        for name, (title, values) in self._measured(kept, wanted).items():
            chance = float(np.mean([other[name][1].mean() for other in shuffled]))
            metrics.append(share(name, values, np.array(asked), title=title, chance=chance))
        return result(metrics, notes)

    def _ordered(self, row: NDArray[np.float64] | None) -> NDArray[np.float64]:
        import numpy as np

        from mmflow_evaluators.temporal.moments import suppress_moments

        if row is None or not len(row):
            return np.zeros((0, 2))
        scores = row[:, 2] if row.shape[1] == 3 else -np.arange(len(row), dtype=np.float64)
        if self.suppress is not None:
            return row[suppress_moments(row[:, :2], scores, self.suppress), :2]
        return row[np.argsort(-scores, kind="stable"), :2]

    def _measured(
        self, found: list[NDArray[np.float64]], truth: list[NDArray[np.float64] | None]
    ) -> dict[str, tuple[str, NDArray[np.float64]]]:
        """For each metric its title and its value of each sample."""
        import numpy as np

        from mmflow_evaluators.temporal.moments import moment_iou

        best = [
            moment_iou(f, t).max(1) if t is not None and len(f) else np.zeros(0)
            for f, t in zip(found, truth, strict=True)
        ]
        measured = {}
        for k in self.at:
            for overlap in self.overlaps:
                hits = [float((b[:k] >= overlap - 1e-12).any()) for b in best]
                measured[f"r{k}_iou{overlap:g}".replace(".", "")] = (f"R@{k}, IoU {overlap:g}", np.array(hits))
        first = [float(b[0]) if len(b) else 0.0 for b in best]
        return {**measured, "miou": ("mIoU", np.array(first))}
