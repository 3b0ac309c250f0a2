"""How much a linear classifier finds in frozen vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from mmflow.plugin import Encoding, EvaluationResult, PositiveFloat, PositiveInt, default
from mmflow_evaluators.declared import Counts, Refusal, WithClasses, known_classes, two_classes
from mmflow_evaluators.probes.linear_probes import Probe, classes_of


class LinearProbe(WithClasses, Probe, name="linear_probe"):
    """Accuracy of a logistic regression on frozen, standardized vectors, for each encoder in `of`.

    It learns on `data` and is tested on `test`; without `test`, on the part `held_out` of `data`, chosen by the
    rows' ids. The strength of the L2 penalty (scikit-learn's C) is the one of `c` that is best on a fifth of the
    rows to learn from; then the classifier is fitted again on all of them. Mean and scale come from the rows that
    are learned from. Chance is the majority class; the interval is Wilson's.
    """

    example: ClassVar[str] = "{use: linear_probe, data: train, test: test, of: image, labels: label}"

    c: tuple[PositiveFloat, ...] = default(
        (0.01, 0.1, 1.0, 10.0, 100.0), min_length=1, description="penalties to choose from"
    )
    iterations: PositiveInt = default(500, description="at most, of the solver")

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        yield from two_classes(known, "a classifier")
        yield from known_classes(known, asked)

    def evaluate(self, *of: Encoding, labels: Any, ids: list[str], test: Any, model: Any) -> EvaluationResult:
        from mmflow_evaluators.estimates import accuracy, never_predicted
        from mmflow_evaluators.probes import regularized

        measured = EvaluationResult([])
        fit = partial(regularized.class_scores, iterations=self.iterations)
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            train, held = self.sides(place, encoding, labels, ids, test, "labels", classes_of)
            self.require(f"linear_probe of {name}", train.targets, held.targets)
            found = regularized.probe(fit, regularized.agreement, train, held, self.c, "probe penalty")
            hits = (found.predicted == held.targets).astype(float)
            measured.metrics.append(accuracy(name, hits, held.ids, train.targets, held.targets, alone=len(of) == 1))
            where = "" if len(of) == 1 else f"{name}: "
            predicted = found.predicted.astype(int)
            measured.remarks += never_predicted(predicted, held.targets, model.names("labels"), where)
            if found.tried:
                measured.figures[f"Penalty of the probe on {name}"] = {
                    "kind": "bars", "labels": [f"C = {c:g}" for c in self.c], "values": found.tried,
                    "note": f"accuracy on held-out rows of the data learned from; C = {found.penalty:g} was chosen",
                }  # fmt: skip
        return measured
