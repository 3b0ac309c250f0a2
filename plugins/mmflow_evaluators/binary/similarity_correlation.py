"""Whether pairs that people call alike score high."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, RawField, Ref, Score, Tally, default
from mmflow_evaluators.declared import OfTwo, Refusal, amount, too_few
from mmflow_evaluators.reading import NUMBER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

ROUNDING = 1e-6
"""Relative range in which scores of float32 vectors differ by rounding alone."""


class SimilarityCorrelation(OfTwo, name="similarity_correlation"):
    """Spearman's and Pearson's correlation of the score of two rows with the similarity that people gave them.

    The measure of semantic textual similarity (Cer et al., 2017), for any two encoders. `of` names the two sides,
    `target` the field with the similarity. Tied scores have their mean rank. Rows without a target, or without one of
    the two sides, are left out. Chance is 0; the interval is that of a bootstrap over rows. Scores that are all equal
    have no correlation, which is said instead of a number.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"target": NUMBER}
    example: ClassVar[str] = "{use: similarity_correlation, data: test, of: [first, second], target: similarity}"
    requires: ClassVar[tuple[str, ...]] = ("scipy",)

    target: Ref[RawField] = default(..., description="the field with the similarity that people gave")
    score: Score = default("cosine")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 3, self.use)

    def evaluate(self, a: Encoding, b: Encoding, target: Tensor, score: Score) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.binary.correlation import pearson, spearman
        from mmflow_evaluators.binary.pairs import pair_scores
        from mmflow_evaluators.estimates import bootstrapped
        from mmflow_evaluators.vectors import numbers_of

        scores, present = pair_scores(score, a, b, "similarity_correlation")
        wanted = numbers_of(target)
        kept = present & np.isfinite(wanted)
        x, y = scores[kept], wanted[kept]
        if len(x) < 3:
            raise ComponentError(f"{self.use}: {amount(len(x), 'row')} with both sides and a target, needs 3")
        if np.ptp(x) <= ROUNDING * np.abs(x).max():
            x = np.full_like(x, x[0])
        metrics, notes = [], []
        for name, correlation in (("spearman", spearman), ("pearson", pearson)):
            if math.isnan(correlation(x, y)):
                notes.append(f"{name}: all {'targets' if np.ptp(y) == 0 else 'scores'} are equal.")
                continue
            drawn = partial(_drawn, correlation, x, y)
            metrics.append(bootstrapped(name, drawn, len(x), bounds=(-1.0, 1.0), title=name.title(), chance=0.0))
        # Without a correlation there is no number to give: what was equal is told beside the other results.
        return EvaluationResult(metrics, notes=notes)


def _drawn(
    correlation: Callable[..., float], x: NDArray[np.float64], y: NDArray[np.float64], index: NDArray[np.int64]
) -> float:
    return correlation(x[index], y[index])
