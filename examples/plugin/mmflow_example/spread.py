"""An evaluator: a stage that gets encodings of all rows and returns metrics."""

from __future__ import annotations

from typing import ClassVar

from mmflow.plugin import Encoding, EvaluationResult, Evaluator, Metric


class Spread(Evaluator, name="spread"):
    """Standard deviation over rows of each encoder's pooled vectors, the mean over dimensions; 0 means collapse."""

    example: ClassVar[str] = "{use: spread, data: test, of: [image, text]}"

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        names = [str(name) for name in self.of]
        values = [float(encoding.pooled.std(dim=0).mean()) for encoding in of]
        return EvaluationResult([Metric(f"{name}_spread", value) for name, value in zip(names, values, strict=True)])
