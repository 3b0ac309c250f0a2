"""Whether rows of unknown classes are told from those of known ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import Data, Encoding, EvaluationResult, Metric, PositiveInt, Ref, default
from mmflow_evaluators.declared import Counts, OfEach, Refusal, WithClasses, amount

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.estimates import Better, Group

BLOCK = 1024


class OpenSet(WithClasses, OfEach, name="open_set"):
    """AUROC, FPR95 and AUPR of a score that should be higher for rows of known classes, for each encoder in `of`.

    Classes with a row in `data` are known; rows of `test` with another class are unknown. The score of a row is its
    cosine with the nearest class mean (`by: mean`; Snell et al., 2017) or with the `k`-th nearest row of `data`
    (`by: neighbor`; Sun et al., 2022). Known is the positive kind; `aupr_unknown` takes unknown as the positive one.
    FPR95 is the share of unknown rows accepted where 95 % of the known are. Chance is 0.5, 0.95 and the share of the
    positive kind; intervals are those of a bootstrap over rows. `k` beyond the rows is refused.
    """

    example: ClassVar[str] = "{use: open_set, data: train, test: test, of: image, labels: label}"

    test: Ref[Data] = default(..., description="rows of known and of unknown classes")
    by: Literal["mean", "neighbor"] = default("mean", description="nearest class mean, or k-th nearest row")
    k: PositiveInt = default(1, description="of `by: neighbor`")

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        asked = asked or {}
        old = sum(rows for name, rows in asked.items() if name in known)
        new = sum(asked.values()) - old
        if not old or not new:
            said = f"the test data has {amount(old, 'row')} of a class of the data and {new:,} of others"
            yield "test", said, "`data` holds the known classes, `test` these and others"
        rows = sum(known.values())
        if self.by == "neighbor" and self.k > rows:
            yield "k", f"k is {self.k}, and the data has {amount(rows, 'labeled row')}", "write a lower k"

    def evaluate(self, *of: Encoding, labels: Tensor, test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import group_of, result
        from mmflow_evaluators.vectors import unit, vectors_of

        metrics = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            where = f"open_set of {name}"
            x, there = vectors_of(encoding, where)
            y, there_y = vectors_of(test.of[place], f"{where} (test)")
            own = labels.cpu().numpy().reshape(-1)
            asked = test.fields["labels"].cpu().numpy().reshape(-1)
            kept, asked_kept = there & (own >= 0), there_y & (asked >= 0)
            self.require(where, own[kept], asked[asked_kept])
            known = np.isin(asked[asked_kept], own[kept])
            s = self._scores(unit(x[kept]), own[kept], unit(y[asked_kept]))
            metrics += _measured(group_of(name, len(of) == 1), s, known)
        return result(metrics)

    def _scores(
        self, known: NDArray[np.float64], classes: NDArray[np.int64], rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        import numpy as np

        from mmflow_evaluators.vectors import unit

        place = 1
        if self.by == "mean":
            known = unit(np.stack([known[classes == c].mean(0) for c in np.unique(classes)]))
        else:
            place = self.k
        found = [
            np.partition(rows[start : start + BLOCK] @ known.T, -place, axis=1)[:, -place]
            for start in range(0, len(rows), BLOCK)
        ]
        return np.concatenate(found)


def _measured(group: Group, s: NDArray[np.float64], known: NDArray[np.bool_]) -> list[Metric]:
    from mmflow_evaluators.binary import scores as binary
    from mmflow_evaluators.estimates import bootstrapped

    share = float(known.mean())
    measures: tuple[tuple[str, str, Callable[[NDArray[np.int64]], float], float, Better], ...] = (
        ("auroc", "AUROC", lambda i: binary.auroc(s[i], known[i]), 0.5, "higher"),
        ("fpr95", "FPR95", lambda i: binary.false_positive_rate(s[i], known[i]), 0.95, "lower"),
        ("aupr_known", "AUPR of known", lambda i: binary.average_precision(s[i], known[i]), share, "higher"),
        ("aupr_unknown", "AUPR of unknown", lambda i: binary.average_precision(-s[i], ~known[i]), 1 - share, "higher"),
    )
    return [
        bootstrapped(name, measure, len(s), title=title, group=group, chance=chance, better=better)
        for name, title, measure, chance, better in measures
    ]
