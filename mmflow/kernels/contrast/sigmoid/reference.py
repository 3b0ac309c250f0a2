"""The sigmoid loss by its definition, in float64 where the device has it: memory and time grow with N x M."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..pairs.reference import pair_masks
from ..sums.reference import precise, reduce


def sigmoid_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: Tensor,
    bias: Tensor,
    negatives: Tensor | None,
    negatives_present: Tensor | None,
    masks: dict[str, Any],
    pair_weights: Tensor | Callable[[slice, slice], Tensor] | None,
    row_weights: Tensor | None,
    reduction: str,
) -> Tensor:
    n, m = x.shape[0], y.shape[0]
    dtype = temperature.dtype
    x, y, temperature, bias, negatives = precise(x, y, temperature, bias, negatives)
    s = (x @ y.T) / (temperature[:m] if temperature.dim() else temperature) + bias
    positive, excluded = pair_masks(n, m, x.device, **masks)
    values = -F.logsigmoid(torch.where(positive, s, -s))
    if pair_weights is not None:
        values = values * (pair_weights if isinstance(pair_weights, Tensor) else pair_weights(slice(0, n), slice(0, m)))
    rows = values.masked_fill(excluded, 0).sum(1)
    if negatives is not None:
        own = temperature if temperature.dim() == 0 else temperature[m:]
        more = -F.logsigmoid(-(x @ negatives.T) / own - bias)
        if negatives_present is not None:
            more = more * negatives_present
        rows = rows + more.sum(1)
    present = masks.get("x_present")
    counted = torch.ones(n, dtype=torch.bool, device=x.device) if present is None else present
    return reduce([(rows * counted, counted)], [row_weights], reduction).to(dtype)
