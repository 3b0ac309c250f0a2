"""Losses of a prediction against its target, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Index, Labels, Loss, Pooled, RawField, Ref, Refs, TokenSequence

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class CaptionNLL(Loss, name="caption_nll"):
    """Negative log-likelihood of a text's ids (as in CoCa; Yu et al., 2022): the mean over all tokens of the batch.

    Takes logits [N, L, V] with their mask and `targets`, ids [N, L] with theirs: `targets: text.ids`, the ids of a
    text encoder, or the field of its text. The logits at place t are for the id at t + `shift`; padding counts
    nowhere. A row's value is the mean over its tokens, its weight their number.
    """

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: caption_nll, of: next.logits, targets: text.ids, weight: 2.0}"

    of: Refs[TokenSequence] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    targets: Ref[TokenSequence | RawField] = Field(description="the ids of the text, or the field of the text")
    shift: int = Field(1, ge=0, description="how many places after its logits an id stands")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all ids")

    def compute(self, logits: Tokens, targets: Tokens) -> tuple[Tensor, Tensor]:
        if not isinstance(targets, tuple) or targets.values.is_floating_point():
            raise ComponentError(
                "the targets of caption_nll are no ids",
                found="raw texts" if isinstance(targets, list) else "numbers of another kind",
                hint="name the ids of the encoder that reads the text: targets: text.ids",
            )
        length = min(logits.values.shape[1], targets.values.shape[1] - self.shift)
        scores = logits.values[:, : max(0, length)]
        ids = targets.values[:, self.shift : self.shift + max(0, length)]
        counted = targets.mask[:, self.shift : self.shift + max(0, length)] & logits.mask[:, : max(0, length)]
        nll = _cross_entropy(scores.flatten(0, 1), ids.flatten(), counted.flatten(), self.smoothing).view(ids.shape)
        weight = counted.sum(1)
        return nll.sum(1) / weight.clamp_min(1), weight.to(nll.dtype)


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
        values = _cross_entropy(logits, labels.long(), known, self.smoothing)
        return values, known.to(values.dtype)


class MeanSquaredError(Loss, name="mse"):
    """Squared difference of two inputs of one shape, the mean over all that is in a row: mean_d (a_d - b_d)^2."""

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: mse, of: [decoded, target.detach]}"

    of: Refs[Pooled] = Field(min_length=2, max_length=2)

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise ComponentError("mse takes inputs of one shape", found=f"{list(a.shape)} and {list(b.shape)}")
        return (a - b).square().flatten(1).mean(1)


def _cross_entropy(logits: Tensor, labels: Tensor, counted: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of [N, C] with [N]; 0 where a label does not count."""
    from torch.nn.functional import cross_entropy

    try:
        return cross_entropy(logits, labels.masked_fill(~counted, -100), reduction="none", label_smoothing=smoothing)
    except IndexError:
        raise ComponentError(
            f"a label is too large for logits of {logits.shape[1]} classes",
            found=f"label {int(labels.max())}", hint=f"give the logits at least {int(labels.max()) + 1} classes",
        ) from None  # fmt: skip
