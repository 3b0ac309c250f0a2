"""How an encoder fills its space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Labels, Metric, Ref, Tally, default
from mmflow_evaluators.declared import OfEach, Refusal, too_few
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.estimates import Group

AXES = 256


class Spectrum(OfEach, name="spectrum"):
    """Variances along the principal axes, and signs of collapse, for each encoder in `of`.

    Of the vectors as they are: `participation_ratio`, `entropy_rank`, and `axes_90`, the number of axes that hold 90 %
    of the variance. Of L2-normalized ones: `spread` (1: even over the sphere, 0: one point; Chen and He, 2021) and
    `conformity`, the mean cosine of a row with all others (Levi and Gilboa, 2025), with the correlation of a row's
    exact conformity with its cosine to the mean. With `labels`, `within_class_share` of the variance (Papyan et al.,
    2020). A rank cannot exceed the rows: fewer rows than dimensions are said.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": CLASS}
    example: ClassVar[str] = "{use: spectrum, data: test, of: [image, text]}"

    labels: Ref[Labels] | None = default(None, description="classes, for the share of variance within them")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def evaluate(self, *of: Encoding, labels: Tensor | None) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import group_of, result
        from mmflow_evaluators.similarity.spectrum import spectrum
        from mmflow_evaluators.vectors import vectors_of

        metrics: list[Metric] = []
        notes: list[str] = []
        figures: dict[str, dict[str, Any]] = {}
        for name, encoding in zip(self.of, of, strict=True):
            x, there = vectors_of(encoding, f"spectrum of {name}")
            if there.sum() < 2:
                raise ComponentError(f"spectrum of {name}: fewer than two rows are present")
            classes = None if labels is None else labels.cpu().numpy().reshape(-1)[there]
            if there.sum() <= x.shape[1]:
                notes.append(f"{name} has {x.shape[1]} dimensions, and the data {there.sum()} rows: ranks are of both.")
            variances = spectrum(x[there])
            metrics += _measured(group_of(name, len(of) == 1), x[there], variances, classes, notes)
            total = float(variances.sum()) or 1.0
            shares = (np.cumsum(variances[:AXES]) / total).tolist()
            figures[f"Share of the variance of {name} along its first axes"] = {
                "kind": "lines", "x": list(range(1, len(shares) + 1)), "series": {str(name): shares},
                "x_label": "principal axes",
            }  # fmt: skip
        measured = result(metrics, notes)
        measured.figures |= figures
        return measured


def _measured(
    group: Group,
    x: NDArray[np.float64],
    variances: NDArray[np.float64],
    classes: NDArray[np.int64] | None,
    notes: list[str],
) -> list[Metric]:
    import math

    import numpy as np

    from mmflow_evaluators.binary.correlation import pearson
    from mmflow_evaluators.estimates import estimate
    from mmflow_evaluators.similarity import spectrum as of
    from mmflow_evaluators.vectors import unit

    units = unit(x)
    conformity = of.conformity(units)
    to_mean = unit(units) @ unit(units.mean(0))
    found = {
        "participation_ratio": of.participation_ratio(variances),
        "entropy_rank": of.entropy_rank(variances),
        "axes_90": of.axes_for(variances, 0.9),
        "spread": of.spread_of_units(units),
        "conformity": float(conformity.mean()),
        "conformity_to_mean_correlation": pearson(conformity, to_mean),
    }
    if classes is not None:
        known = classes >= 0
        found["within_class_share"] = of.within_class_share(x[known], classes[known]) if known.any() else math.nan
    metrics = []
    for name, value in found.items():
        if np.isnan(value):
            notes.append(f"{group.heading} {name}: the vectors are all equal, or none has a label.")
        else:
            metrics.append(estimate(name, value, group=group, better=""))
    return metrics
