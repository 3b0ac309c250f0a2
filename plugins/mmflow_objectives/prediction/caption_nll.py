"""Likelihood of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Loss, RawField, Ref, Refs, TensorType, TokenSequence
from mmflow_objectives.prediction.counted import counted_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class CaptionNLL(Loss, name="caption_nll"):
    """Negative log-likelihood of a text's ids (as in CoCa; Yu et al., 2022): the mean over all tokens of the batch.

    Takes logits [N, L, V] with their mask and `targets`, ids [N, L] with theirs: `targets: text.ids`, the ids of a
    text encoder, or the field of its text. The logits at place t are for the id at t + `shift`; padding does not
    count, nor do ids below zero: with `shift: 0` and the targets of `mask_tokens` it is the loss of masked language
    models (Devlin et al., 2019). A row's value is the mean over its tokens, its weight their number; with `over: texts`
    all texts weigh the same, one without a token too, whose value is 0 (as in CapPa; Tschannen et al., 2023).
    """

    per_row: ClassVar[bool] = True
    refuses_values: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"targets": ("tokens", "text", "labels")}
    example: ClassVar[str] = "{use: caption_nll, of: next.logits, targets: text.ids, weight: 2.0}"

    of: Refs[TokenSequence] = Field((), max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    targets: Ref[TokenSequence | RawField] = Field(description="the ids of the text, or the field of the text")
    shift: int = Field(1, ge=0, le=1_000_000, description="places between logits and the id that they predict")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all ids")
    over: Literal["tokens", "texts"] = Field(
        "tokens", description="the mean of all tokens of the batch, or of the means of its texts"
    )

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        targets = fields.get("targets")
        if len(of[0].size) != 2 and of[0].modality != "unknown":
            raise ComponentError("it takes logits of every place of a text", found=of[0].modality)
        if targets is not None and targets.modality == "tokens" and not targets.dtype.startswith("int"):
            raise ComponentError(
                "its targets are not ids", found="vectors",
                hint="name the ids of the encoder that reads the text: targets: text.ids",
            )  # fmt: skip

    def compute(self, logits: Tokens, targets: Tokens) -> tuple[Tensor, Tensor]:
        import torch

        if not isinstance(targets, tuple) or targets.values.is_floating_point():
            raise ComponentError(
                "the targets of caption_nll are not ids",
                found="raw texts" if isinstance(targets, list) else "numbers of another kind",
                hint="name the ids of the encoder that reads the text: targets: text.ids",
            )
        length = min(logits.values.shape[1], targets.values.shape[1] - self.shift)
        scores = logits.values[:, : max(0, length)]
        ids = targets.values[:, self.shift : self.shift + max(0, length)]
        counted = targets.mask[:, self.shift : self.shift + max(0, length)] & logits.mask[:, : max(0, length)]
        counted = counted & (ids >= 0)
        nll = counted_cross_entropy(scores.flatten(0, 1), ids.flatten(), counted.flatten(), self.smoothing).view(
            ids.shape
        )
        count = counted.sum(1)
        values = nll.sum(1) / count.clamp_min(1)
        return values, (count.to(nll.dtype) if self.over == "tokens" else torch.ones_like(values))
