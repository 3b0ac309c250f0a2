"""Search by its definition: all scores, sorted stably."""

import torch
from torch import Tensor


def top_k(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    dtype: torch.dtype,
    exclude: Tensor | None,
    query_ids: Tensor | None,
    gallery_ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    scores = queries.to(dtype) @ gallery.to(dtype).T
    if query_ids is not None and gallery_ids is not None:
        scores = scores.masked_fill(query_ids[:, None] == gallery_ids, -torch.inf)
    if exclude is not None:
        rows, slots = (exclude >= 0).nonzero(as_tuple=True)
        scores[rows, exclude[rows, slots]] = -torch.inf
    best = scores.sort(dim=1, descending=True, stable=True)
    return best.values[:, :k], best.indices[:, :k]
