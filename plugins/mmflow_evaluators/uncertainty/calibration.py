"""Whether probabilities of classes are what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    PositiveInt,
    Ref,
    Score,
    Value,
    default,
)

if TYPE_CHECKING:
    from torch import Tensor


class Calibration(Evaluator, name="calibration"):
    """Calibration of classification by the names of the classes: ECE, its adaptive form, Brier score and log loss.

    `of` names the encoder of the rows and the one of the class names, as in `zero_shot`; a class's probability is the
    softmax of score / temperature over the classes. `temperature` is a number or that of a loss
    (`losses.align.temperature`). ECE (Guo et al., 2017) has `bins` equal parts; a calibrated model has about the
    square root of bins / N, not 0. Chance of the Brier score and the log loss is that of equal probabilities.
    Intervals are those of a bootstrap over rows. Rows without a label are left out.
    """

    example: ClassVar[str] = "{use: calibration, data: test, of: [image, text], labels: label, temperature: 0.07}"

    labels: Ref[Labels]
    temperature: Value = default(0.07, description="of the softmax over classes")
    prompt: str = default("{}", description="text with {} where the class name goes")
    bins: PositiveInt = 15
    score: Score = default("cosine")

    @model_validator(mode="after")
    def _two(self) -> Calibration:
        if len(self.of) != 2 or self.prompt.count("{}") != 1:
            raise ValueError("`of` names the encoder of the rows and that of the class names; `prompt` has one {}")
        return self

    def evaluate(
        self, rows: Encoding, texts: Encoding, labels: Tensor, temperature: Any, score: Score, model: Any
    ) -> EvaluationResult:
        import math

        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, estimate, result
        from mmflow_evaluators.intervals import share_interval
        from mmflow_evaluators.uncertainty import measures as of

        names = model.names("labels")
        kept = labels >= 0 if rows.present is None else (labels >= 0) & rows.present
        if len(names) < 2 or not bool(kept.any()):
            raise ComponentError(f"calibration: no row has a label, or there are fewer than two classes ({len(names)})")
        classes = model.encode(self.of[1], [self.prompt.replace("{}", name) for name in names])
        blocks = score.blocks(rows.rows(kept), classes)
        logits = (blocks[0] if isinstance(blocks, tuple) else blocks).double().cpu().numpy() / float(temperature)
        p, t = of.softmax(logits), labels[kept].cpu().numpy()
        confidence, right = np.minimum(p.max(1), 1.0), (p.argmax(1) == t).astype(np.float64)
        count, uniform = len(t), 1 / len(names)
        ece = bootstrapped(
            "ece", lambda i: of.expected_calibration_error(confidence[i], right[i], self.bins), count, title="ECE",
            better="lower",
        )  # fmt: skip
        adaptive = bootstrapped(
            "adaptive_ece", lambda i: of.adaptive_calibration_error(confidence[i], right[i], self.bins), count,
            title="adaptive ECE", better="lower",
        )  # fmt: skip
        brier = bootstrapped(
            "brier", lambda i: of.brier_score(p[i], t[i]), count, title="Brier score", bounds=(0.0, 2.0),
            chance=1 - uniform, better="lower",
        )  # fmt: skip
        loss = bootstrapped(
            "log_loss", lambda i: of.log_loss(p[i], t[i]), count, bounds=None, chance=-math.log(uniform), unit="nats",
            better="lower",
        )  # fmt: skip
        accuracy = estimate("accuracy", right.mean(), share_interval(right), chance=uniform)
        sure = estimate("confidence", confidence.mean(), share_interval(confidence), title="mean confidence", better="")
        measured = result([accuracy, sure, ece, adaptive, brier, loss])
        found = of.reliability(confidence, right, self.bins)
        filled = np.flatnonzero(found.counts)
        measured.figures["Accuracy by confidence"] = {
            "kind": "lines", "x": found.confidence[filled].tolist(), "x_label": "confidence",
            "series": {"accuracy": found.accuracy[filled].tolist(), "calibrated": found.confidence[filled].tolist()},
        }  # fmt: skip
        return measured
