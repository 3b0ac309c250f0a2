"""How much a linear classifier finds in frozen vectors."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import (
    ComponentError,
    Data,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    PositiveFloat,
    PositiveInt,
    Ref,
    default,
)


class LinearProbe(Evaluator, name="linear_probe"):
    """Accuracy of a logistic regression on frozen, standardized vectors, for each encoder in `of`.

    It learns on `data` and is tested on `test`; without `test`, on the part `held_out` of `data`, chosen by the
    rows' ids. The strength of the L2 penalty (scikit-learn's C) is the one of `c` that is best on a fifth of the
    rows to learn from; then the classifier is fitted again on all of them. Mean and scale come from the rows that
    are learned from. Chance is the majority class; the spread is half the 95 % Wilson interval.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    example: ClassVar[str] = "{use: linear_probe, data: train, test: test, of: image, labels: label}"
    requires: ClassVar[tuple[str, ...]] = ("sklearn",)

    labels: Ref[Labels]
    test: Ref[Data] | None = default(None, description="data to be tested on; without it a part of `data`")
    held_out: PositiveFloat = default(0.25, lt=1, description="share of `data` to be tested on without `test`")
    c: tuple[PositiveFloat, ...] = default(
        (0.01, 0.1, 1.0, 10.0, 100.0), min_length=1, description="penalties to choose from"
    )
    iterations: PositiveInt = default(500, description="at most, of the solver")

    @model_validator(mode="after")
    def _some(self) -> LinearProbe:
        if not self.of:
            raise ValueError("`of` names no encoder")
        return self

    def evaluate(self, *of: Encoding, labels: Any, ids: list[str], test: Any) -> EvaluationResult:
        from mmflow_evaluators.probing import accuracy, labeled, split

        measured = EvaluationResult([])
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            train = labeled(encoding, labels, ids, where=f"linear_probe of {name}")
            if test is None:
                train, held = split(train, self.held_out, "probe test")
            else:
                held = labeled(test.of[place], test.fields["labels"], test.ids, where=f"linear_probe of {name} (test)")
            if len(set(train.labels.tolist())) < 2:
                raise ComponentError(f"linear_probe of {name}: the rows to learn from have one class only")
            chosen, tried = self._choose(train)
            right = self._fit(train, chosen).predict(held.vectors) == held.labels
            measured.metrics.append(accuracy(name, right, train.labels, held.labels, alone=len(of) == 1))
            measured.figures[f"Penalty of the probe on {name}"] = {
                "kind": "bars", "labels": [f"C = {c:g}" for c in self.c], "values": tried,
                "note": f"accuracy on held-out rows of the data learned from; C = {chosen:g} was chosen",
            }  # fmt: skip
        return measured

    def _choose(self, train: Any) -> tuple[float, list[float]]:
        from mmflow_evaluators.probing import split

        fitting, checking = split(train, 0.2, "probe penalty")
        if len(self.c) == 1 or len(set(fitting.labels.tolist())) < 2:
            return self.c[0], []
        tried = [float(self._fit(fitting, c).score(checking.vectors, checking.labels)) for c in self.c]
        return self.c[tried.index(max(tried))], tried

    def _fit(self, rows: Any, c: float) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=self.iterations))
        with warnings.catch_warnings():
            # `iterations` is a stated part of the protocol, as in published probes.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(rows.vectors, rows.labels)
