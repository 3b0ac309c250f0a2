"""From sums over rows and columns to a loss: extra columns, targets, smoothing, weights, reduction. O(N) work."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import Sums

_NOTHING = -1e30


class Extra(NamedTuple):
    """Further columns of the forward direction: their log-sum-exp, sum of scores and number, one value per row."""

    lse: Tensor
    total: Tensor | None
    allowed: Tensor


def cross_entropy(
    sums: Sums, extra: list[Extra], *, smoothing: float = 0.0, inside: bool = False, soft: bool = False
) -> tuple[Tensor, Tensor]:
    """(loss, whether it counts), one per row. A row counts that has a positive (or soft targets) and a denominator."""
    lse = _finite(sums.lse)
    allowed = sums.allowed
    for more in extra:
        lse = torch.logaddexp(lse, _finite(more.lse))
        allowed = allowed + more.allowed
    # Written so that NaN counts as a value: a loss that left it out would hide it.
    valid = ~(lse <= _NOTHING / 2)
    if not soft:
        valid = valid & (sums.positives > 0)
    if inside:
        assert sums.inside is not None
        target = _finite(sums.inside)
    else:
        assert sums.target is not None
        target = sums.target if soft else sums.target / sums.positives.clamp_min(1)
    if smoothing:
        total = sums.total
        assert total is not None
        for more in extra:
            assert more.total is not None
            total = total + more.total
        target = (1 - smoothing) * target + smoothing * total / allowed.clamp_min(1)
    return torch.where(valid, lse - target, 0.0), valid


def mean_of_directions(
    sides: Sequence[Sums | None],
    extra: list[Extra],
    weights: Sequence[Tensor | None],
    reduction: str,
    *,
    smoothing: float = 0.0,
    inside: bool = False,
    soft: bool = False,
    across: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype,
) -> Tensor:
    """The loss, in `dtype`, from the sums of rows and of columns (None where a direction is not asked for)."""
    values = [
        cross_entropy(side, extra if k == 0 else [], smoothing=smoothing, inside=inside, soft=soft)
        for k, side in enumerate(sides)
        if side is not None
    ]
    own = [w for w, side in zip(weights, sides, strict=True) if side is not None]
    return reduce(values, own, reduction, across).to(dtype)


def reduce(
    directions: list[tuple[Tensor, Tensor]],
    weights: list[Tensor | None],
    reduction: str,
    across: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The mean over directions of the weighted mean, the weighted sum, or the weighted values themselves.

    `across` sums a scalar over the ranks that share the batch.
    """
    parts = []
    for (values, valid), own in zip(directions, weights, strict=True):
        w = valid.to(values.dtype) if own is None else valid * own.to(values.dtype)
        if reduction == "none":
            parts.append(values * w)
            continue
        total = (values * w).sum()
        if across is not None:
            total = across(total)
        if reduction == "mean":
            count = w.sum() if across is None else across(w.sum())
            total = total / torch.where(count > 0, count, torch.ones_like(count))
        parts.append(total)
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / 2


def _finite(lse: Tensor) -> Tensor:
    return torch.where(lse == -torch.inf, _NOTHING, lse)
