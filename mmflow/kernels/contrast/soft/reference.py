"""Contrast against soft targets by its definition: the cross-entropy of the softmax reference with other targets."""

from typing import Any

from torch import Tensor

from ..softmax.reference import softmax_loss


def soft_loss(
    x: Tensor,
    y: Tensor,
    teacher: tuple[Tensor, Tensor, Tensor, int | None],
    *,
    temperature: Tensor,
    directions: str,
    masks: dict[str, Any],
    row_weights: Tensor | None,
    column_weights: Tensor | None,
    hard: float,
    reduction: str,
) -> Tensor:
    """`teacher` is both matrices, their temperature and top_k."""
    return softmax_loss(
        x, y, temperature=temperature, negatives=None, negatives_present=None, private_negatives=None,
        private_present=None, in_batch=True, directions=directions, masks=masks, pair_weights=None,
        row_weights=row_weights, column_weights=column_weights, inside=False, positive_in_denominator=True,
        label_smoothing=0.0, soft=teacher, hard_share=hard, reduction=reduction,
    )  # fmt: skip
