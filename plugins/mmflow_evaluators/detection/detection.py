"""Boxes found beside boxes that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, EvaluationResult, Evaluator, PositiveInt, RawField, Ref, default
from mmflow_evaluators.reading import ROWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmflow_evaluators.detection.average_precision import Hits

DRAWS = 50


class Detection(Evaluator, name="detection"):
    """Average precision and recall of boxes, as COCO measures them (Lin et al., 2014).

    `found` names a field or column with rows [x0, y0, x1, y1, class, score] a sample, `truth` one with [x0, y0, x1,
    y1, class], in pixels, or with a sixth number that is 1 for a crowd. `ap` is the mean over classes and the
    overlaps 0.50, 0.55 .. 0.95, `ap50` and `ap75` those of one overlap; `ap_small`, `ap_medium` and `ap_large` are of
    objects below 32², below 96² and above. Classes without an object do not count; a size without objects is said. A
    sample without boxes found is missed, one without true boxes has false ones only. There is no chance level;
    intervals are those of a bootstrap over samples.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"found": ROWS, "truth": ROWS}
    example: ClassVar[str] = "{use: detection, data: test, found: detect.boxes, truth: boxes}"

    found: Ref[RawField] = default(..., description="boxes found, with class and score")
    truth: Ref[RawField] = default(..., description="boxes that are there, with their class")
    most: PositiveInt = default(100, description="boxes of a sample that count, the best first")

    def evaluate(self, found: Any, truth: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.detection import average_precision as of
        from mmflow_evaluators.estimates import bootstrapped, estimate, result
        from mmflow_evaluators.ragged import ragged

        boxes = [np.zeros((0, 6)) if b is None else b for b in ragged(found, (6,), "detection (found)")]
        objects = [np.zeros((0, 5)) if b is None else b for b in ragged(truth, (5, 6), "detection (truth)")]
        classes = sorted({int(c) for o in objects for c in o[:, 4]})
        if not classes:
            raise ComponentError("detection: no sample has a true box")
        metrics, notes = [], []
        for area in of.AREAS:
            parts = [[_hits(b, o, c, area, self.most) for b, o in zip(boxes, objects, strict=True)] for c in classes]
            if area == "all":
                for name, title, level in (("ap", "AP", None), ("ap50", "AP50", 0), ("ap75", "AP75", 5)):

                    def statistic(index: NDArray[np.int64], level: int | None = level, parts: Any = parts) -> float:
                        return _mean_precision(parts, index, level)

                    metrics.append(bootstrapped(name, statistic, len(boxes), title=title, draws=DRAWS))
                recalls = [of.recall_of(of.join(part)).mean() for part in parts]
                known = [r for r in recalls if not math.isnan(r)]
                if known:
                    metrics.append(estimate("ar", float(np.mean(known)), title=f"AR of {self.most}"))
            else:
                value = _mean_precision(parts, np.arange(len(boxes)), None)
                if math.isnan(value):
                    notes.append(f"AP of {area} objects is not measured: there are none.")
                else:
                    metrics.append(estimate(f"ap_{area}", value, title=f"AP of {area} objects"))
        return result(metrics, notes)


def _hits(boxes: NDArray[np.float64], objects: NDArray[np.float64], name: int, area: str, most: int) -> Hits:
    """Boxes and objects of one class in one sample, matched."""
    import numpy as np

    from mmflow_evaluators.detection.average_precision import ImageMatch, match_image
    from mmflow_evaluators.detection.boxes import box_iou

    found, true = boxes[boxes[:, 4] == name], objects[objects[:, 4] == name]
    crowd = true[:, 5] == 1 if true.shape[1] == 6 else np.zeros(len(true), bool)
    sizes = [np.prod(b[:, 2:4] - b[:, :2], axis=1) for b in (found, true)]
    overlaps = box_iou(found[:, :4], true[:, :4], crowd)
    return match_image(ImageMatch(overlaps, found[:, 5], sizes[0], sizes[1], crowd), area=area, most=most)


def _mean_precision(parts: list[list[Hits]], index: NDArray[np.int64], level: int | None) -> float:
    """Mean over classes with an object (and over overlaps, or of one) of the AP of the samples at `index`."""
    import numpy as np

    from mmflow_evaluators.detection.average_precision import average_precision, join

    found = [average_precision(join([part[i] for i in index.tolist()])) for part in parts]
    known = [float(ap.mean() if level is None else ap[level]) for ap in found if not np.isnan(ap).any()]
    return float(np.mean(known)) if known else math.nan
