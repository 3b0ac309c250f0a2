"""An evaluator of one's own: a stage that measures."""

from __future__ import annotations

from typing import ClassVar

from mmflow.plugin import Encoding, EvaluationResult, Evaluator, Metric


class CLASS(Evaluator, name="NAME"):
    """Mean length of each encoder's vectors.

    Say here what is measured, what chance gives, and the paper.
    """

    example: ClassVar[str] = "{use: NAME, data: test, of: [image, text]}"

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        """Encodings over all rows of the data, [N, D] as `pooled`, in the order of `of`."""
        names = [str(name) for name in self.of]
        lengths = [float(encoding.pooled.norm(dim=-1).mean()) for encoding in of]
        return EvaluationResult([Metric(f"{name}_length", value) for name, value in zip(names, lengths, strict=True)])
