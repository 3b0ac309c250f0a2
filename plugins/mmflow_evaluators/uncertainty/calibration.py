"""Whether probabilities of classes are what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    ItemScores,
    PositiveInt,
    Score,
    Source,
    Tally,
    Value,
    default,
)
from mmflow_evaluators.declared import Counts, OfTwo, Refusal, WithClasses, groups_of_rows, unnamed

if TYPE_CHECKING:
    from torch import Tensor


TIE = 1e-9
"""Probabilities closer than this are tied."""


class Calibration(WithClasses, OfTwo, name="calibration"):
    """Calibration of classification by the names of the classes: ECE, its adaptive form, Brier score and log loss.

    `of` names the encoder of the rows and the one of the class names, as in `zero_shot`; a class's probability is the
    softmax of score / temperature over the classes. `temperature` is a number or that of a loss
    (`losses.align.temperature`). ECE (Guo et al., 2017) has `bins` equal parts; a calibrated model has about the
    square root of bins / N, not 0. Chance of the Brier score and the log loss is that of equal probabilities.
    Ties count by expectation. Intervals are those of a bootstrap over rows. Rows without a label are left out.
    """

    example: ClassVar[str] = "{use: calibration, data: test, of: [image, text], labels: label, temperature: 0.07}"

    encodes: ClassVar[Mapping[int, str]] = {1: "text"}

    temperature: Value = default(0.07, description="of the softmax over classes")
    prompt: str = default("{}", description="text with {} where the class name goes")
    bins: PositiveInt = 15
    score: Score = default("cosine")

    @field_validator("prompt")
    @classmethod
    def _place(cls, prompt: str) -> str:
        if prompt.count("{}") != 1:
            raise ValueError(f"prompt {prompt!r} must contain {{}} exactly once")
        return prompt

    def refuses(self, source: Source) -> Iterator[Refusal]:
        field = source.fields().get(self.labels.removeprefix("fields."))
        if field is not None and len(field.names) < 2:
            said = f"calibration needs the names of two classes, and the field {self.labels} has {len(field.names)}"
            yield "labels", said, "name the classes in the data (`names` of a column)"

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from super().refuses_rows(tallies)
        data = tallies["data"]
        yield from unnamed(self.use, data.classes.get(self.labels, {}), len(data.names.get(self.labels, ())))

    def refuses_encodings(self, *of: Encoding) -> Iterator[Refusal]:
        yield from groups_of_rows(self.use, self.of[0], of[0])

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        if not known:
            yield "labels", "no row has a label", "name data with labels"

    def evaluate(
        self, rows: Encoding, texts: Encoding, labels: Tensor, temperature: Any, score: Score, model: Any
    ) -> EvaluationResult:
        import math

        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, result, share
        from mmflow_evaluators.uncertainty import measures as of

        names = model.names("labels")
        kept = labels >= 0 if rows.present is None else (labels >= 0) & rows.present
        if len(names) < 2 or not bool(kept.any()):
            raise ComponentError(f"calibration: no row has a label, or there are fewer than two classes ({len(names)})")
        classes = model.encode(self.of[1], [self.prompt.replace("{}", name) for name in names])
        blocks = score.blocks(rows.rows(kept), classes)
        logits = (blocks[0] if isinstance(blocks, tuple) else blocks).double().cpu().numpy() / float(temperature)
        p, t = of.softmax(logits), labels[kept].cpu().numpy()
        count, uniform = len(t), 1 / len(names)
        confidence, best = np.minimum(p.max(1), 1.0), p >= p.max(1, keepdims=True) - TIE
        right = best[np.arange(count), t] / best.sum(1)
        ece = bootstrapped(
            "ece", lambda i: of.expected_calibration_error(confidence[i], right[i], self.bins), count, title="ECE",
            better="lower",
        )  # fmt: skip
        adaptive = bootstrapped(
            "adaptive_ece", lambda i: of.adaptive_calibration_error(confidence[i], right[i], self.bins), count,
            title="adaptive ECE", better="lower",
        )  # fmt: skip
        places = np.flatnonzero(kept.cpu().numpy())
        distances, losses = of.brier_scores(p, t), of.log_losses(p, t)
        brier = bootstrapped(
            "brier", lambda i: float(distances[i].mean()), count, title="Brier score", bounds=(0.0, 2.0),
            chance=1 - uniform, better="lower", items_of=ItemScores(distances, places),
        )  # fmt: skip
        loss = bootstrapped(
            "log_loss", lambda i: float(losses[i].mean()), count, bounds=None, chance=-math.log(uniform), unit="nats",
            better="lower", items_of=ItemScores(losses, places),
        )  # fmt: skip
        accuracy = share("accuracy", right, places, chance=uniform)
        sure = share("confidence", confidence, places, title="mean confidence", better="")
        measured = result([accuracy, sure, ece, adaptive, brier, loss])
        found = of.reliability(confidence, right, self.bins)
        filled = np.flatnonzero(found.counts)
        measured.figures["Accuracy by confidence"] = {
            "kind": "lines", "x": found.confidence[filled].tolist(), "x_label": "confidence",
            "series": {"accuracy": found.accuracy[filled].tolist(), "calibrated": found.confidence[filled].tolist()},
        }  # fmt: skip
        return measured
