"""Columns of the forward direction beside the batch, and rows that face their own pair alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..pairs import Pairs
from ..pairs.options import presence
from ..sums import Sums, Want
from ..sums.losses import Extra
from ..tiles.chunked import TILE, precise_dtype, spans

SoftmaxSums = Callable[[Tensor, Tensor, Tensor, Pairs, Want], tuple[Sums | None, Sums | None]]


def queue_columns(
    softmax_sums: SoftmaxSums, x: Tensor, negatives: Tensor, scale: Tensor, present: Tensor | None, want: Want
) -> Extra:
    """Columns that every row faces, [K, D]."""
    pairs = Pairs(x.shape[0], negatives.shape[0], "none", y_present=present)
    sums, _ = softmax_sums(x, negatives, scale, pairs, Want(True, False, target=False, total=want.total))
    assert sums is not None
    return Extra(sums.lse, sums.total, sums.allowed)


def private_columns(x: Tensor, negatives: Tensor, scale: Tensor, present: Tensor | None, want: Want) -> Extra:
    """Columns that only their own row faces, [N, K, D]."""
    n, d = x.shape
    if negatives.dim() != 3 or negatives.shape[0] != n or negatives.shape[2] != d:
        raise ValueError(f"info_nce: private_negatives has shape {tuple(negatives.shape)}; it is [{n}, K, {d}]")
    present = presence("info_nce", "private_present", present, (n, negatives.shape[1]), x.device)
    # by elements: a matrix product would be rounded under autocast
    scores = (x.to(scale.dtype).unsqueeze(1) * negatives.to(scale.dtype)).sum(-1) * scale
    kept = torch.ones_like(scores, dtype=torch.bool) if present is None else present
    total = (scores * kept).sum(1) if want.total else None
    listed = scores.masked_fill(~kept, -torch.inf)
    peak = listed.detach().amax(1)
    peak = torch.where(peak == -torch.inf, 0.0, peak)
    mass = (listed - peak[:, None]).exp().sum(1).to(precise_dtype(x.device, scores.dtype))
    # the maximum is added in double precision: see `sums.streams`
    return Extra(torch.where(mass == 0, -torch.inf, torch.where(mass == 0, 1, mass).log() + peak), total, kept.sum(1))


def own_pairs(x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want) -> Sums:
    """The sums of rows whose only column in the batch is their own pair."""
    score = (x.to(scale.dtype) * y.to(scale.dtype)).sum(1) * scale
    here = torch.ones_like(score, dtype=torch.bool)
    for present in (pairs.x_present, pairs.y_present):
        here = here if present is None else here & present
    counted = here if not pairs.without_positives else torch.zeros_like(here)
    lse = score
    if pairs.weights is not None:
        lse = lse + torch.cat([w.diagonal() for w in _diagonal_weights(pairs)]).log()
    return Sums(
        torch.where(counted, lse, -torch.inf), torch.where(here, score, 0.0), torch.where(counted, score, 0.0),
        torch.where(here, score, -torch.inf), counted.to(score.dtype), here.to(score.dtype),
    )  # fmt: skip


def _diagonal_weights(pairs: Pairs) -> list[Tensor]:
    return [w for at in spans(pairs.rows, TILE) if (w := pairs.weight(at, at)) is not None]
