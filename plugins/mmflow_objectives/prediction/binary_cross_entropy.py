"""Several labels a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Labels, Loss, Pooled, Ref, Refs, TensorType

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class BinaryCrossEntropy(Loss, name="binary_cross_entropy"):
    """Binary cross-entropy of each label: sum_c log(1 + exp(z_c)) - y_c z_c of logits z [N, C], the sum or the mean
    over the labels of a row (as CatLIP; Mehta et al., 2024).

    `labels` are 0 or 1 for each class [N, C], the numbers of a row's classes (a list of any length), or one class a
    row [N].
    """

    per_row: ClassVar[bool] = True
    refuses_values: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "of": ("vector", "logits"),
        "labels": ("labels", "label", "vector", "number", "index"),
    }
    example: ClassVar[str] = "{use: binary_cross_entropy, of: logits, labels: tags}"

    of: Refs[Pooled] = Field((), max_length=1)
    labels: Ref[Labels | Pooled] = Field(description="the classes of a row, or 0 or 1 for each class")
    over: Literal["sum", "mean"] = Field("sum", description="of the labels of a row")

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        labels = fields.get("labels")
        known, width = len(labels.names) if labels is not None else 0, of[0].size[0] if of[0].size else None
        if labels is not None and labels.modality in ("label", "labels") and width is not None and width < known:
            raise ComponentError(
                f"{known} classes need as many logits, and there are {width}", found=f"{width}", expected=f"{known}",
                hint=f"give the encoder of the logits `dim: {known}`",
            )  # fmt: skip
        classes, width = (kind.size[0] if kind is not None and kind.size else None for kind in (labels, of[0]))
        if None not in (classes, width) and classes != width:
            raise ComponentError("it takes a logit for each label", found=f"{width} logits and {classes} labels")

    def compute(self, logits: Tensor, labels: Tensor | Tokens) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

        if isinstance(labels, tuple):
            labels = _multi_hot(labels.values, labels.mask, logits.shape[1])
        elif labels.ndim == 1:
            _check_range(labels, logits.shape[1])
            labels = one_hot(labels.long(), logits.shape[1])
        values = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        return values.sum(1) if self.over == "sum" else values.mean(1)


def _multi_hot(numbers: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Lists of classes [N, K] with their mask as 0 or 1 for each class [N, C]."""
    _check_range(numbers[mask], classes)
    found = numbers.new_zeros(len(numbers), classes + 1)
    return found.scatter(1, numbers.long().masked_fill(~mask, classes), 1)[:, :classes]


def _check_range(numbers: Tensor, classes: int) -> None:
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < classes:
        found = f"{int(numbers.min())} to {int(numbers.max())}"
        raise ComponentError(f"a label is no class of {classes} logits", found=found)
