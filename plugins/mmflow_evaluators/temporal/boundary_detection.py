"""Boundaries between the segments of a sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import (
    ComponentError,
    EvaluationResult,
    Evaluator,
    NonNegativeInt,
    PositiveInt,
    RawField,
    Ref,
    default,
)
from mmflow_evaluators.reading import MARKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class BoundaryDetection(Evaluator, name="boundary_detection"):
    """Pk, WindowDiff and F1 of boundaries (Beeferman et al., 1999; Pevzner and Hearst, 2002).

    `found` and `truth` name fields or columns with one number a gap, 1 for a boundary: N - 1 for N units. Pk and
    WindowDiff are means over sequences, with `window` or half the mean true segment as window; sequences not longer
    than it are left out. F1 is of the boundaries of all sequences, matched one to one within `tolerance` gaps. Chance
    is that of as many boundaries at random gaps. Intervals are those of a mean, and of a bootstrap, over sequences.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"found": MARKS, "truth": MARKS}
    example: ClassVar[str] = "{use: boundary_detection, data: test, found: cut.boundary, truth: boundary}"

    found: Ref[RawField] = default(..., description="1 for a gap where a boundary was found, else 0")
    truth: Ref[RawField] = default(..., description="1 for a gap with a boundary, else 0")
    window: PositiveInt | None = default(None, description="gaps of a window; half the mean true segment without it")
    tolerance: NonNegativeInt = default(0, description="gaps within which a boundary of F1 is found")

    def evaluate(self, found: Any, truth: Any) -> EvaluationResult:
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import bootstrapped, result, share
        from mmflow_evaluators.ragged import ragged
        from mmflow_evaluators.temporal import boundaries as of

        pairs, places = [], []
        for place, (f, t) in enumerate(
            zip(ragged(found, (0,), "boundary_detection"), ragged(truth, (0,), "boundary_detection"), strict=True)
        ):
            if f is not None and t is not None:
                pairs.append((t, f))
                places.append(place)
        if not pairs:
            raise ComponentError("boundary_detection: no sample has boundaries of both kinds")
        generator = numpy_generator("mmflow_evaluators.boundary_detection")
        shuffled = [[(t, f[generator.permutation(len(f))]) for t, f in pairs] for _ in range(20)]
        metrics, notes = [], []
        for name, title, measure in (("pk", "Pk", of.pk), ("window_diff", "WindowDiff", of.window_difference)):
            values = np.array([measure(t, f, self.window) for t, f in pairs])
            known = ~np.isnan(values)
            if not known.all():
                notes.append(f"{title}: {(~known).sum()} of {len(values)} sequences are not longer than the window.")
            if not known.any():
                continue
            chance = float(np.nanmean([measure(t, f, self.window) for drawn in shuffled for t, f in drawn]))
            rows = np.array(places)[known]
            metrics.append(share(name, values[known], rows, title=title, chance=chance, better="lower"))
        counts = self._counts(pairs)
        if math.isnan(of.f1_of_counts(*counts.sum(0).tolist())):
            notes.append("F1: there is no boundary, and none was found.")
        else:
            by_chance = np.sum([self._counts(drawn).sum(0) for drawn in shuffled], axis=0)
            metrics.append(
                bootstrapped(
                    "f1", lambda i: of.f1_of_counts(*counts[i].sum(0).tolist()), len(pairs), title="F1",
                    chance=of.f1_of_counts(*by_chance.tolist()),
                )
            )  # fmt: skip
        return result(metrics, notes, self.use)

    def _counts(self, pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> NDArray[np.int64]:
        import numpy as np

        from mmflow_evaluators.temporal.boundaries import boundary_counts

        return np.array([boundary_counts(t, f, self.tolerance) for t, f in pairs], dtype=np.int64)
