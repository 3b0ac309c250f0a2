"""The symmetric cross-entropy over two score matrices by its definition: what `tiles.contrast` must return."""

import torch
from torch import Tensor
from torch.nn import functional as F


def score_contrast(
    by_row: Tensor, by_column: Tensor, x_present: Tensor | None, y_present: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Losses [N] of the rows of `by_row` and [M] of the columns of `by_column` against the diagonal."""
    rows = torch.ones(by_row.shape[0], dtype=torch.bool, device=by_row.device) if x_present is None else x_present
    columns = torch.ones(by_row.shape[1], dtype=torch.bool, device=by_row.device) if y_present is None else y_present
    return (
        _one_direction(by_row, rows, columns, label_smoothing),
        _one_direction(by_column.T, columns, rows, label_smoothing),
    )


def _one_direction(logits: Tensor, rows: Tensor, columns: Tensor, label_smoothing: float) -> Tensor:
    shared = min(logits.shape)
    counted = torch.zeros_like(rows)
    counted[:shared] = rows[:shared] & columns[:shared]
    target = (columns.long().cumsum(0) - 1)[:shared]
    kept = counted.nonzero().squeeze(1)
    losses = F.cross_entropy(logits[kept][:, columns], target[kept], reduction="none", label_smoothing=label_smoothing)
    return torch.zeros_like(logits[:, 0]).index_put((kept,), losses)
