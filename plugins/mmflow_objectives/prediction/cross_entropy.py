"""Cross-entropy of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Index, Labels, Loss, Pooled, Ref, Refs
from mmflow_objectives.prediction.counted import counted_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss, name="cross_entropy"):
    """Softmax cross-entropy of logits [N, C] with labels: -log softmax(logits)[label].

    `labels` are class numbers [N] (those below zero are left out) or a distribution over classes [N, C].
    """

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: cross_entropy, of: logits, labels: label, smoothing: 0.1}"

    of: Refs[Pooled] = Field(min_length=1, max_length=1)
    labels: Ref[Labels | Index] = Field(description="class numbers, or a distribution over classes")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all classes")

    def compute(self, logits: Tensor, labels: Tensor) -> Any:
        from torch.nn.functional import cross_entropy

        if labels.is_floating_point():
            if labels.shape != logits.shape:
                raise ComponentError(
                    "cross_entropy takes a logit for every class of the distributions over classes",
                    found=f"logits {list(logits.shape)} and labels {list(labels.shape)}",
                )
            return cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        if labels.shape != logits.shape[:1]:
            raise ComponentError(
                "cross_entropy takes one label a row, or a distribution over classes",
                found=f"logits {list(logits.shape)} and labels {list(labels.shape)}",
            )
        known = labels >= 0
        values = counted_cross_entropy(logits, labels.long(), known, self.smoothing)
        return values, known.to(values.dtype)
