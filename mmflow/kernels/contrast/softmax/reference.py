"""The contrastive losses by their definitions, with every matrix written out: what the other forms must return.

Memory and time grow with N x M; any dtype, any device, gradients by autograd. Computed in float64 where the device has
it: the loss of a row is a small difference of scores that may be large. Nothing here is shared with the streaming
forms, so that a mistake in their rules shows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..pairs.reference import pair_masks
from ..sums.reference import precise, reduce


def softmax_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: Tensor,
    negatives: Tensor | None,
    negatives_present: Tensor | None,
    private_negatives: Tensor | None,
    private_present: Tensor | None,
    in_batch: bool,
    directions: str,
    masks: dict[str, Any],
    pair_weights: Tensor | Callable[[slice, slice], Tensor] | None,
    row_weights: Tensor | None,
    column_weights: Tensor | None,
    inside: bool,
    positive_in_denominator: bool,
    label_smoothing: float,
    soft: tuple[Tensor, Tensor, Tensor, int | None] | None,
    hard_share: float,
    reduction: str,
) -> Tensor:
    n, m = x.shape[0], y.shape[0]
    dtype = temperature.dtype
    x, y, temperature, negatives, private_negatives = precise(x, y, temperature, negatives, private_negatives)
    logits = (x @ y.T) / (temperature[:m] if temperature.dim() else temperature)
    positive, excluded = pair_masks(n, m, x.device, **masks)
    if not positive_in_denominator:
        excluded = excluded | positive
    weights = torch.ones(n, m, dtype=logits.dtype, device=x.device)
    if pair_weights is not None:
        given = pair_weights if isinstance(pair_weights, Tensor) else pair_weights(slice(0, n), slice(0, m))
        weights = given.to(logits.dtype)
    targets = positive.to(logits.dtype)
    results = []
    if directions in ("both", "forward"):
        extra, kept = [], []
        if negatives is not None:
            extra.append((x @ negatives.T) / (temperature if temperature.dim() == 0 else temperature[m:]))
            here = torch.ones(negatives.shape[0]) if negatives_present is None else negatives_present
            kept.append(here.to(x.device, torch.bool).expand(n, -1))
        if private_negatives is not None:
            extra.append(torch.einsum("nd,nkd->nk", x, private_negatives) / temperature)
            kept.append(torch.ones_like(extra[-1], dtype=torch.bool) if private_present is None else private_present)
        out = excluded
        if not in_batch:
            out = ~torch.eye(n, m, dtype=torch.bool, device=x.device) | excluded
        results.append(
            _direction(
                logits,
                targets,
                out,
                weights,
                extra,
                kept,
                inside,
                label_smoothing,
                _soft_targets(soft, 0, excluded),
                hard_share,
            )
        )
    if directions in ("both", "backward"):
        results.append(
            _direction(
                logits.T,
                targets.T,
                excluded.T,
                weights.T,
                [],
                [],
                inside,
                label_smoothing,
                _soft_targets(soft, 1, excluded),
                hard_share,
            )
        )
    own_weights = {"both": [row_weights, column_weights], "forward": [row_weights], "backward": [column_weights]}
    return reduce(results, own_weights[directions], reduction).to(dtype)


def _soft_targets(soft: tuple[Tensor, Tensor, Tensor, int | None] | None, dim: int, excluded: Tensor) -> Tensor | None:
    if soft is None:
        return None
    *matrices, k = soft
    a, b, temperature = precise(*matrices)
    scores = ((a @ b.T) / temperature).detach().masked_fill(excluded, -torch.inf)
    scores = scores if dim == 0 else scores.T
    if k is not None and k < scores.shape[1]:
        least = scores.topk(k, dim=1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    return scores.softmax(1).masked_fill((scores == -torch.inf).all(1, keepdim=True), 0.0)


def _direction(
    s: Tensor,
    positive: Tensor,
    excluded: Tensor,
    weights: Tensor,
    extra: list[Tensor],
    kept: list[Tensor],
    inside: bool,
    smoothing: float,
    soft: Tensor | None,
    hard_share: float,
) -> tuple[Tensor, Tensor]:
    columns = torch.cat([s, *extra], 1)
    allowed = torch.cat([~excluded & (weights != 0), *kept], 1)
    log_weights = torch.cat(
        [weights.clamp_min(torch.finfo(s.dtype).tiny).log(), *[torch.zeros_like(e) for e in extra]], 1
    )
    count = positive.sum(1)
    valid = allowed.any(1) if soft is not None else allowed.any(1) & (count > 0)
    safe = torch.where(allowed, columns + log_weights, torch.finfo(s.dtype).min)
    lse = torch.logsumexp(safe, 1)
    if inside:
        target = torch.logsumexp(torch.where(positive > 0, s, torch.finfo(s.dtype).min), 1)
    else:
        target = (s * positive).sum(1) / count.clamp_min(1)
    if soft is not None:
        target = hard_share * target + (1 - hard_share) * (soft * s).sum(1)
    if smoothing:
        listed = torch.cat([~excluded, *kept], 1)
        target = (1 - smoothing) * target + smoothing * (columns * listed).sum(1) / listed.sum(1).clamp_min(1)
    return torch.where(valid, lse - target, 0.0), valid
