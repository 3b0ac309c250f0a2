"""Linear probes of factors, numbers and several labels a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import (
    ComponentError,
    Data,
    Encoding,
    EvaluationResult,
    Labels,
    Metric,
    PositiveFloat,
    RawField,
    Ref,
    Refs,
    Tally,
    Tokens,
    default,
)
from mmflow_evaluators.declared import OfEach, Refusal, amount, too_few
from mmflow_evaluators.reading import CLASS, NUMBER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.probes.regularized import Rows


class Probe(OfEach):
    """The fields that probes share: data to be tested on, or the part of `data` that is held out."""

    requires: ClassVar[tuple[str, ...]] = ("sklearn",)

    test: Ref[Data] | None = default(None, description="data to be tested on; without it a part of `data`")
    held_out: PositiveFloat = default(0.25, lt=1, description="share of `data` to be tested on without `test`")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def sides(
        self, place: int, encoding: Encoding, targets: Any, ids: list[str], test: Any, field: str, read: Any
    ) -> tuple[Rows, Rows]:
        """Rows to learn from and rows to be tested on, with targets as `read` gives them (and which are known)."""
        from mmflow_evaluators.probes.regularized import parted

        where = f"{self.use} of {self.of[place]}"
        train = _rows(encoding, read(targets), ids, where)
        if test is None:
            return parted(train, self.held_out, "probe test")
        there = test.fields[field]
        return train, _rows(test.of[place], read(there), test.ids, f"{where} (test)")


class FactorProbe(Probe, name="factor_probe"):
    """Accuracy of a logistic regression for each of several factors (color, shape, place), for each encoder in `of`.

    Which factors does a representation keep, which does it lose? The penalty is chosen for each factor on a fifth of
    the rows to learn from. Chance is the class most frequent there; intervals are Wilson's. A factor with one class
    is said, not measured. One metric a factor, named after its field.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"factors": CLASS}
    example: ClassVar[str] = "{use: factor_probe, data: train, of: image, factors: [color, shape]}"

    factors: Refs[Labels] = Field(min_length=1, description="fields with classes")
    c: tuple[PositiveFloat, ...] = default((0.01, 0.1, 1.0, 10.0, 100.0), min_length=1, description="to choose from")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        known = [tallies["data"].classes.get(factor) for factor in self.factors]
        if all(classes is not None and len(classes) < 2 for classes in known):
            yield "factors", f"factor_probe: no rows of {' or '.join(self.factors)} have two classes", "name others"

    def evaluate(self, *of: Encoding, factors: tuple[Tensor, ...], ids: list[str], test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import group_of, result, share
        from mmflow_evaluators.probes import regularized

        metrics: list[Metric] = []
        notes: list[str] = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            for number, factor in enumerate(self.factors):
                read = classes_of if test is None else lambda column, at=number: classes_of(_nth(column, at))
                own = factors[number] if test is None else factors
                train, held = self.sides(place, encoding, own, ids, test, "factors", read)
                names, counts = np.unique(train.targets, return_counts=True)
                if len(names) < 2:
                    notes.append(f"{factor}: the {len(train.ids)} rows to learn from have one class.")
                    continue
                if not np.isin(held.targets, names).any():
                    tested = amount(len(held.ids), "row")
                    notes.append(f"{factor}: none of the {tested} to be tested on has a class learned from.")
                    continue
                found = regularized.probe(
                    regularized.class_scores, regularized.agreement, train, held, self.c, "probe penalty"
                )
                hits = (found.predicted == held.targets).astype(np.float64)
                chance = float((held.targets == names[counts.argmax()]).mean())
                label = str(factor).replace(".", "_")
                group = group_of(name, len(of) == 1)
                metrics.append(share(f"{label}_accuracy", hits, held.ids, group=group, chance=chance))
        return result(metrics, notes, self.use)


class RegressionProbe(Probe, name="regression_probe"):
    """R-squared, mean absolute error and Spearman's correlation of a ridge regression, for each encoder in `of`.

    The penalty `alpha` is chosen by R-squared on a fifth of the rows to learn from. Chance is always answering the
    mean of the rows learned from. R-squared is at most 1 and has no lower bound; a constant target has none, which is
    said. Rows without a finite target are left out. Intervals are those of a bootstrap over test rows.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"target": NUMBER}
    example: ClassVar[str] = "{use: regression_probe, data: train, test: test, of: image, target: size}"

    target: Ref[RawField] = default(..., description="the field with a number a row")
    alpha: tuple[PositiveFloat, ...] = default(
        (0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1, description="to choose from"
    )

    def evaluate(self, *of: Encoding, target: Tensor, ids: list[str], test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.binary.correlation import spearman
        from mmflow_evaluators.estimates import bootstrapped, group_of, result
        from mmflow_evaluators.probes import regularized as probes

        metrics: list[Metric] = []
        notes: list[str] = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            train, held = self.sides(place, encoding, target, ids, test, "target", _numbers)
            if np.ptp(train.targets) == 0 or np.ptp(held.targets) == 0:
                notes.append(f"{name}: the target is constant.")
                continue
            found = probes.probe(probes.numbers, probes.r_squared, train, held, self.alpha, "probe penalty").predicted
            truth, count, group = held.targets, len(held.ids), group_of(name, len(of) == 1)
            mean = np.full(count, train.targets.mean())

            def r2(i: NDArray[np.int64], a: Any = found, b: Any = truth) -> float:
                return probes.r_squared(a[i], b[i])

            def error(i: NDArray[np.int64], a: Any = found, b: Any = truth) -> float:
                return float(np.abs(a[i] - b[i]).mean())

            def rank(i: NDArray[np.int64], a: Any = found, b: Any = truth) -> float:
                return spearman(a[i], b[i])

            at_mean = probes.r_squared(mean, truth)
            metrics.append(bootstrapped("r2", r2, count, bounds=None, title="R²", group=group, chance=at_mean))
            worse = float(np.abs(mean - truth).mean())
            metrics.append(
                bootstrapped(
                    "mean_absolute_error", error, count, bounds=None, group=group, chance=worse, better="lower"
                )
            )
            if np.ptp(found) > 0:
                metrics.append(
                    bootstrapped("spearman", rank, count, bounds=(-1, 1), title="Spearman", group=group, chance=0.0)
                )
        return result(metrics, notes, self.use)


class MultiLabelProbe(Probe, name="multi_label_probe"):
    """Mean average precision of one logistic regression a label, for each encoder in `of`.

    `labels` holds several classes a row. The penalty is chosen once, by mAP on a fifth of the rows to learn from.
    Labels that all test rows have, or none, do not count, which is said. Chance is the mean share of rows that have a
    label; the interval is that of a bootstrap over test rows.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": ("labels",)}
    example: ClassVar[str] = "{use: multi_label_probe, data: train, test: test, of: image, labels: tags}"

    labels: Ref[Labels]
    c: tuple[PositiveFloat, ...] = default((0.01, 0.1, 1.0, 10.0), min_length=1, description="to choose from")

    def evaluate(self, *of: Encoding, labels: Any, ids: list[str], test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, group_of, result
        from mmflow_evaluators.probes import regularized as probes

        sides = [labels] if test is None else [labels, test.fields["labels"]]
        count = max(_highest(column) for column in sides) + 1
        metrics: list[Metric] = []
        notes: list[str] = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            train, held = self.sides(
                place, encoding, labels, ids, test, "labels", lambda column: _label_sets(column, count)
            )
            shares = held.targets.mean(0)
            used = (shares > 0) & (shares < 1)
            if not used.any():
                notes.append(f"{name}: every label is on all test rows or on none.")
                continue
            if not used.all():
                notes.append(f"{name}: {(~used).sum()} of {count} labels are on all test rows or on none.")
            found = probes.probe(
                probes.label_scores, probes.mean_average_precision, train, held, self.c, "probe penalty"
            ).predicted

            def statistic(i: NDArray[np.int64], a: Any = found, b: Any = held.targets) -> float:
                return probes.mean_average_precision(a[i], b[i])

            group, chance = group_of(name, len(of) == 1), float(np.mean(shares[used]))
            metrics.append(
                bootstrapped("map", statistic, len(held.ids), title="mAP", group=group, chance=chance, draws=200)
            )
        return result(metrics, notes, self.use)


def _rows(encoding: Encoding, targets: tuple[NDArray[Any], NDArray[np.bool_]], ids: list[str], where: str) -> Rows:
    import numpy as np

    from mmflow_evaluators.probes.regularized import Rows
    from mmflow_evaluators.vectors import vectors_of

    values, known = targets
    x, here = vectors_of(encoding, where)
    kept = np.flatnonzero(here & known)
    if len(kept) < 2:
        raise ComponentError(f"{where}: {amount(len(kept), 'row')} with a target and a value for the encoder, needs 2")
    return Rows(x[kept], values[kept], [ids[i] for i in kept.tolist()])


def _nth(column: Any, place: int) -> Tensor:
    """One of several columns; test data give a single one as it is."""
    return column[place] if isinstance(column, (tuple, list)) else column


def classes_of(column: Tensor) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Classes of the rows, and which of them have one."""
    values = column.cpu().numpy().reshape(-1)
    return values, values >= 0


def _numbers(column: Tensor) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    import numpy as np

    from mmflow_evaluators.vectors import numbers_of

    values = numbers_of(column)
    return values, np.isfinite(values)


def _highest(column: Tensor | Tokens) -> int:
    values = column.values if isinstance(column, Tokens) else column
    if values.is_floating_point():
        return values.shape[1] - 1
    return int(values.max()) if values.numel() else 0


def _label_sets(column: Tensor | Tokens, count: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Multi-hot bool [N, count] of lists of numbers, or of a weight for each label, which is there where it is above
    0; a row without a label has none of them, and is known."""
    import numpy as np

    if not isinstance(column, Tokens) and column.is_floating_point():
        sets = np.zeros((len(column), count), bool)
        sets[:, : column.shape[1]] = (column > 0).cpu().numpy()
        return sets, np.ones(len(column), bool)
    if isinstance(column, Tokens):
        values, there = column.values.cpu().numpy(), column.mask.cpu().numpy()
    else:
        values = column.cpu().numpy().reshape(len(column), -1)
        there = values >= 0
    sets = np.zeros((len(values), count), bool)
    rows = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    sets[rows[there], values[there]] = True
    return sets, np.ones(len(values), bool)
