"""Cross-entropy of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Index, Labels, Loss, Pooled, Ref, Refs, TensorType
from mmflow_objectives.prediction.counted import counted_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss, name="cross_entropy"):
    """Softmax cross-entropy of logits [N, C] with labels: -log softmax(logits)[label].

    `labels` are class numbers [N] (those below zero are left out) or a distribution over classes [N, C]. Where each
    member of a group has one number [N, C, 1] (a score for each candidate), the members are the classes, and those that
    are absent cannot be chosen; where each has logits [N, G, C], `labels` are [N, G] or, equal for the group, [N].
    """

    per_row: ClassVar[bool] = True
    refuses_values: ClassVar[bool] = True
    axes: ClassVar[tuple[str, ...]] = ("*",)
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: cross_entropy, of: logits, labels: label, smoothing: 0.1}"

    of: Refs[Pooled] = Field((), max_length=1)
    labels: Ref[Labels | Index] = Field(description="class numbers, or a distribution over classes")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all classes")

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        logits, labels = of[0], fields.get("labels")
        if labels is not None and labels.modality == "labels" and labels.dtype.startswith("int"):
            raise ComponentError(
                "a row has one class, or a distribution over classes", found="lists of classes",
                hint="mixup and cutmix make distributions of classes",
            )  # fmt: skip
        classes, width = len(labels.names) if labels is not None else 0, logits.size[-1] if logits.size else None
        if labels is None or labels.modality != "label" or width is None or width == 1 or width >= classes:
            return
        raise ComponentError(
            f"{classes} classes need as many logits, and there are {width}", found=f"{width}", expected=f"{classes}",
            hint=f"give the encoder of the logits `dim: {classes}`",
        )  # fmt: skip

    def compute(self, logits: Tensor, labels: Tensor, present: Tensor | None = None) -> Any:
        if logits.ndim == 3 and logits.shape[2] == 1:
            return self._compute(self._of_candidates(logits[:, :, 0], present), labels)
        if logits.ndim < 3:
            return self._compute(logits, labels)
        groups = logits.shape[:-1]
        while labels.ndim < len(groups):
            labels = labels.unsqueeze(-1)
        labels = labels.expand(groups) if not labels.is_floating_point() else labels.expand(logits.shape)
        found = self._compute(logits.flatten(0, -2), labels.flatten(0, len(groups) - 1))
        values, weights = found if isinstance(found, tuple) else (found, found.new_ones(found.shape))
        if present is not None:
            weights = weights * present.expand(groups).flatten()
        total = weights.view(len(logits), -1).sum(1)
        return (values * weights).view(len(logits), -1).sum(1) / total.clamp_min(1), total

    def _of_candidates(self, scores: Tensor, present: Tensor | None) -> Tensor:
        if present is None or present.ndim < 2 or bool(present.all()):
            return scores
        if self.smoothing:
            raise ComponentError(
                "cross_entropy cannot spread a target over candidates that are absent", hint="leave out `smoothing`"
            )
        return scores.masked_fill(~present, float("-inf"))

    def _compute(self, logits: Tensor, labels: Tensor) -> Any:
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
