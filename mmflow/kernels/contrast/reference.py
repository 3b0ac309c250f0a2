"""The contrastive losses by their definitions, with every matrix written out: what the other forms must return.

Memory and time grow with N x M; any dtype, any device, gradients by autograd. Computed in float64 where the device has
it: the loss of a row is a small difference of scores that may be large. Nothing here is shared with the streaming
forms, so that a mistake in their rules shows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: Tensor,
    logits: tuple[Tensor, Tensor] | None = None,
    negative_logits: Tensor | None = None,
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
    x, y, temperature, negatives, private_negatives = _precise(x, y, temperature, negatives, private_negatives)
    if logits is None:
        s = (x @ y.T) / (temperature[:m] if temperature.dim() else temperature)
        logits = (s, s)
    positive, excluded = pair_masks(n, m, x.device, **masks)
    if not positive_in_denominator:
        excluded = excluded | positive
    weights = torch.ones(n, m, dtype=logits[0].dtype, device=x.device)
    if pair_weights is not None:
        given = pair_weights if isinstance(pair_weights, Tensor) else pair_weights(slice(0, n), slice(0, m))
        weights = given.to(logits[0].dtype)
    targets = positive.to(logits[0].dtype)
    results = []
    if directions in ("both", "forward"):
        extra, kept = [], []
        if negatives is not None or negative_logits is not None:
            if negative_logits is None:
                assert negatives is not None
                queue_temperature = temperature if temperature.dim() == 0 else temperature[m:]
                negative_logits = (x @ negatives.T) / queue_temperature
            extra.append(negative_logits)
            kept.append(
                torch.ones(negative_logits.shape[1], dtype=torch.bool)
                if negatives_present is None
                else negatives_present
            )
            kept[-1] = kept[-1].to(x.device).expand(n, -1)
        if private_negatives is not None:
            extra.append(torch.einsum("nd,nkd->nk", x, private_negatives) / temperature)
            kept.append(torch.ones_like(extra[-1], dtype=torch.bool) if private_present is None else private_present)
        out = excluded
        if not in_batch:
            out = ~torch.eye(n, m, dtype=torch.bool, device=x.device) | excluded
        results.append(
            _direction(
                logits[0],
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
                logits[1].T,
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


def sigmoid_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: Tensor,
    bias: Tensor,
    logits: Tensor | None = None,
    negative_logits: Tensor | None = None,
    negatives: Tensor | None,
    negatives_present: Tensor | None,
    masks: dict[str, Any],
    pair_weights: Tensor | Callable[[slice, slice], Tensor] | None,
    row_weights: Tensor | None,
    reduction: str,
) -> Tensor:
    n, m = x.shape[0], y.shape[0]
    dtype = temperature.dtype
    x, y, temperature, bias, negatives = _precise(x, y, temperature, bias, negatives)
    s = ((x @ y.T) / (temperature[:m] if temperature.dim() else temperature) if logits is None else logits) + bias
    positive, excluded = pair_masks(n, m, x.device, **masks)
    values = -F.logsigmoid(torch.where(positive, s, -s))
    if pair_weights is not None:
        values = values * (pair_weights if isinstance(pair_weights, Tensor) else pair_weights(slice(0, n), slice(0, m)))
    rows = values.masked_fill(excluded, 0).sum(1)
    if negatives is not None or negative_logits is not None:
        if negative_logits is None:
            assert negatives is not None
            queue_temperature = temperature if temperature.dim() == 0 else temperature[m:]
            negative_logits = (x @ negatives.T) / queue_temperature
        more = -F.logsigmoid(-negative_logits - bias)
        if negatives_present is not None:
            more = more * negatives_present
        rows = rows + more.sum(1)
    present = masks.get("x_present")
    counted = torch.ones(n, dtype=torch.bool, device=x.device) if present is None else present
    return reduce([(rows * counted, counted)], [row_weights], reduction).to(dtype)


def pair_masks(
    n: int,
    m: int,
    device: torch.device,
    *,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    exclude: tuple[str, ...] = (),
) -> tuple[Tensor, Tensor]:
    """(positive, excluded), each [N, M]."""
    eye = torch.eye(n, m, dtype=torch.bool, device=device)
    out = torch.zeros(n, m, dtype=torch.bool, device=device)
    if x_present is not None:
        out |= ~x_present[:, None]
    if y_present is not None:
        out |= ~y_present[None, :]
    if "self" in exclude:
        out |= eye
    if "same_view" in exclude:
        assert x_views is not None
        assert y_views is not None
        out |= x_views[:, None] == y_views[None, :]
    if x_ids is None or y_ids is None:
        return eye & ~out, out
    same = x_ids[:, None] == y_ids[None, :]
    if "same_id" in exclude:
        positive = eye & ~out
        return positive, out | (same & ~positive)
    return same & ~out, out


def _soft_targets(soft: tuple[Tensor, Tensor, Tensor, int | None] | None, dim: int, excluded: Tensor) -> Tensor | None:
    if soft is None:
        return None
    *matrices, k = soft
    a, b, temperature = _precise(*matrices)
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


def _precise(*tensors: Any) -> list[Any]:
    return [t if t is None or t.device.type == "mps" else t.double() for t in tensors]


def reduce(directions: list[tuple[Tensor, Tensor]], weights: list[Tensor | None], reduction: str) -> Tensor:
    parts = []
    for (values, valid), w in zip(directions, weights, strict=True):
        w = valid.to(values.dtype) if w is None else valid * w.to(values.dtype)
        if reduction == "mean":
            parts.append((values * w).sum() / w.sum() if float(w.sum()) else (values * w).sum())
        elif reduction == "sum":
            parts.append((values * w).sum())
        else:
            parts.append(values * w)
    return sum(parts[1:], parts[0]) / len(parts)
