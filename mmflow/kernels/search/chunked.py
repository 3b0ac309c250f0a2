"""Streaming exact search: maxima of groups first, then the few groups that can hold a hit."""

import math

import torch
from torch import Tensor

from ..products import times_transposed

_TILE_BYTES = 16 << 20
_QUERIES = 256


def top_k(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    dtype: torch.dtype,
    exclude: Tensor | None,
    query_ids: Tensor | None,
    gallery_ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    q, g = len(queries), len(gallery)
    values = torch.empty(q, k, dtype=dtype, device=queries.device)
    indices = torch.empty(q, k, dtype=torch.int64, device=queries.device)
    width = min(q, _QUERIES)
    height = min(g, max(2 * k, _TILE_BYTES // (width * values.element_size())))
    buffer = torch.empty(height * width, dtype=dtype, device=queries.device)
    for a in range(0, q, width):
        rows = slice(a, min(a + width, q))
        block = queries[rows].to(dtype)
        excluded = None if exclude is None else exclude[rows]
        best: tuple[Tensor, Tensor] | None = None
        for b in range(0, g, height):
            part = gallery[b : b + height].to(dtype)
            # Gallery by queries: groups of neighboring entries are then maxima over an outer axis.
            scores = times_transposed(part, block, buffer[: len(part) * len(block)].view(len(part), len(block)))
            _strike_out(scores, b, excluded, rows, query_ids, gallery_ids)
            found, at = best_of_tile(scores, k)
            at += b
            best = (found, at) if best is None else _merged(best, (found, at), k)
        assert best is not None
        values[rows], indices[rows] = _ordered(*best)
    return values, indices


def _strike_out(
    scores: Tensor,
    start: int,
    exclude: Tensor | None,
    rows: slice,
    query_ids: Tensor | None,
    gallery_ids: Tensor | None,
) -> None:
    """Sets the excluded scores of the tile [G, Q] to -inf."""
    if query_ids is not None and gallery_ids is not None:
        scores.masked_fill_(gallery_ids[start : start + len(scores), None] == query_ids[rows], -torch.inf)
    if exclude is not None:
        inside = (exclude >= start) & (exclude < start + len(scores))
        query, slot = inside.nonzero(as_tuple=True)
        scores[exclude[query, slot] - start, query] = -torch.inf


def best_of_tile(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best min(k, G) scores and positions [Q, .] of each column of a tile [G, Q], by ascending position.

    The k groups with the largest maxima (the earlier of equal ones) hold the k best: an entry of any other group has
    k entries before it.
    """
    g, q = scores.shape
    size = max(1, math.isqrt(g // k))
    groups = g // size
    if size < 4 or groups <= k:
        at = first_largest(scores.T.contiguous(), min(k, g))
        return scores.T.gather(1, at), at
    whole = groups * size
    maxima = scores[:whole].view(groups, size, q).amax(1).T.contiguous()
    chosen = first_largest(maxima, k)
    positions = (chosen.unsqueeze(2) * size + torch.arange(size, device=scores.device)).flatten(1)
    if whole < g:
        rest = torch.arange(whole, g, device=scores.device).expand(q, -1)
        positions = torch.cat([positions, rest], 1)
    candidates = scores.T.gather(1, positions)
    at = first_largest(candidates, k)
    return candidates.gather(1, at), positions.gather(1, at)


def first_largest(values: Tensor, k: int) -> Tensor:
    """Positions [Q, k] of the k largest of each row, ascending; of values equal to the k-th the first ones.

    NaN counts as +inf, so that it is found.
    """
    values = values.nan_to_num(torch.inf, torch.inf, -torch.inf)
    least = values.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above = values > least
    level = values == least
    free = k - above.sum(1, keepdim=True)
    taken = above | (level & (level.cumsum(1) <= free))
    return taken.nonzero()[:, 1].view(len(values), k)


def _merged(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    values, indices = (torch.cat(pair, 1) for pair in zip(old, new, strict=True))
    at = first_largest(values, min(k, values.shape[1]))
    return values.gather(1, at), indices.gather(1, at)


def _ordered(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)
