"""Tracks found beside tracks that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, EvaluationResult, Evaluator, PositiveFloat, RawField, Ref, default
from mmflow_evaluators.reading import ROWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmflow_evaluators.tracking.sequences import Tracks


class Tracking(Evaluator, name="tracking"):
    """HOTA with its detection and association parts, MOTA, MOTP, switches of identity and IDF1.

    `found` and `truth` name fields or columns with rows [frame, identity, x0, y0, x1, y1] a sample; a sample is a
    sequence, frames without rows are empty. HOTA (Luiten et al., 2021) is a mean over overlaps; MOTA (Bernardin and
    Stiefelhagen, 2008) and IDF1 (Ristani et al., 2016) match from `overlap` on. Sequences are joined by their counts.
    MOTA has no lower bound. There is no chance level; intervals are those of a bootstrap over sequences, where there
    are two.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"found": ROWS, "truth": ROWS}
    example: ClassVar[str] = "{use: tracking, data: test, found: follow.tracks, truth: tracks}"
    requires: ClassVar[tuple[str, ...]] = ("scipy",)

    found: Ref[RawField] = default(..., description="boxes found, with frame and identity")
    truth: Ref[RawField] = default(..., description="boxes that are there, with frame and identity")
    overlap: PositiveFloat = default(0.5, le=1, description="of boxes, from which MOTA and IDF1 match")

    def evaluate(self, found: Any, truth: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, estimate, result
        from mmflow_evaluators.ragged import ragged
        from mmflow_evaluators.tracking import measures as of

        sides = [ragged(side, (6,), f"tracking ({n})") for side, n in ((found, "found"), (truth, "truth"))]
        sequences = [_tracks(*pair) for pair in zip(*sides, strict=True)]
        if not any(sequence.true for sequence in sequences):
            raise ComponentError("tracking: no sample has a true box")
        hota = [of.hota(sequence) for sequence in sequences]
        clear = [of.clear(sequence, self.overlap) for sequence in sequences]
        identity = [of.identity(sequence, self.overlap) for sequence in sequences]
        metrics, notes = [], []
        for name, title, parts, field, bounds in (
            ("hota", "HOTA", hota, "hota", (0.0, 1.0)),
            ("det_a", "DetA", hota, "detection", (0.0, 1.0)),
            ("ass_a", "AssA", hota, "associated", (0.0, 1.0)),
            ("mota", "MOTA", clear, "mota", None),
            ("motp", "MOTP", clear, "motp", (0.0, 1.0)),
            ("idf1", "IDF1", identity, "idf1", (0.0, 1.0)),
        ):

            def statistic(index: NDArray[np.int64], parts: Any = parts, field: str = field) -> float:
                return getattr(reduce(add, [parts[i] for i in index.tolist()]), field)

            if math.isnan(statistic(np.arange(len(sequences)))):
                notes.append(f"{title} is not measured: nothing is matched.")
            else:
                metrics.append(bootstrapped(name, statistic, len(sequences), title=title, bounds=bounds, draws=200))
        switches = sum(part.switches for part in clear)
        metrics.append(estimate("switches", switches, title="switches of identity", better="lower"))
        return result(metrics, notes)


def _tracks(found: NDArray[np.float64] | None, truth: NDArray[np.float64] | None) -> Tracks:
    import numpy as np

    from mmflow_evaluators.detection.boxes import box_iou
    from mmflow_evaluators.tracking.sequences import tracks_of

    none = np.zeros((0, 6))
    f, t = none if found is None else found, none if truth is None else truth
    frames = []
    for time in np.unique(np.concatenate([f[:, 0], t[:, 0]])):
        a, b = t[t[:, 0] == time], f[f[:, 0] == time]
        frames.append((a[:, 1], b[:, 1], box_iou(a[:, 2:], b[:, 2:])))
    return tracks_of(frames)
