"""Cross-entropy over the rows that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    from torch import Tensor


def counted_cross_entropy(logits: Tensor, labels: Tensor, counted: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of [N, C] with [N]; 0 where a label does not count."""
    from torch.nn.functional import cross_entropy

    try:
        return cross_entropy(logits, labels.masked_fill(~counted, -100), reduction="none", label_smoothing=smoothing)
    except IndexError:
        raise ComponentError(
            f"a label is too large for logits of {logits.shape[1]} classes",
            found=f"label {int(labels.max())}", hint=f"give the logits at least {int(labels.max()) + 1} classes",
        ) from None  # fmt: skip
