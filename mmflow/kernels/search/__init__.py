"""Exact search by inner product: the best k of a gallery for every query, and votes among them."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..dispatch import choose
from ..inputs import positive


class Hits(NamedTuple):
    """The best k entries of each query, best first.

    Attributes:
        values: [Q, k], float32 (float64 for float64 inputs); -inf where fewer than k entries were allowed.
        indices: int64 [Q, k], positions in the gallery; -1 where there is none.
        labels: the labels of the entries, [Q, k, ...], or None; the label of entry 0 where there is none.
    """

    values: Tensor
    indices: Tensor
    labels: Tensor | None = None


@torch.no_grad()
def top_k(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    *,
    exclude: Tensor | None = None,
    query_ids: Tensor | None = None,
    gallery_ids: Tensor | None = None,
    labels: Tensor | None = None,
    backend: str | None = None,
) -> Hits:
    """The k largest inner products of every query with a gallery, exact; equal scores go to the lower index.

    Args:
        queries: [Q, D]. gallery: [G, D]. Any floating dtype; bfloat16 and float16 are multiplied in float32.
        k: 1 <= k <= G.
        exclude: int64 [Q] or [Q, E], positions of the gallery that a query may not find (itself, known positives);
            -1 is none.
        query_ids, gallery_ids: int64 [Q] and [G]; entries with the query's own id are excluded.
        labels: [G, ...], carried along.

    Returns:
        Hits(values, indices, labels). No gradient.

    Raises:
        ValueError: also where a score that may be found is NaN or +inf, with the row at fault: it has no rank.

    Cost: 2 Q G D FLOP and one read of each score: a tile of scores is reduced to the maxima of groups, and only the k
    best groups, which hold the k best scores, are looked at again. Memory: one tile (16 MB) and the k best. On a GPU
    scores and the k best stay in registers, which have room for k up to 128 (and 64 exclusions a query are compared in
    passing); beyond that tiles are searched as on the CPU, which costs one product for any k, where the kernel would
    need one for every further 128. Its memory is the k best of several stretches of the gallery, which are merged.
    """
    if queries.dim() != 2 or gallery.dim() != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"top_k: queries are [Q, D] and the gallery [G, D], got {list(queries.shape)}, {list(gallery.shape)}"
        )
    if not queries.numel() or not gallery.numel():
        raise ValueError(f"top_k: nothing to search: queries {list(queries.shape)}, gallery {list(gallery.shape)}")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"top_k: k is {k}; it is between 1 and the {len(gallery)} entries of the gallery")
    if exclude is not None:
        exclude = exclude.unsqueeze(1) if exclude.dim() == 1 else exclude
        if exclude.dim() != 2 or len(exclude) != len(queries) or exclude.is_floating_point():
            raise ValueError(f"top_k: exclude holds integers [{len(queries)}] or [{len(queries)}, E]")
        exclude = exclude.to(queries.device)
    if (query_ids is None) != (gallery_ids is None):
        raise ValueError("top_k: query_ids and gallery_ids come together")
    for name, ids, size in (("query_ids", query_ids, len(queries)), ("gallery_ids", gallery_ids, len(gallery))):
        if ids is not None and ids.shape != (size,):
            raise ValueError(f"top_k: {name} is [{size}], got {list(ids.shape)}")
    if labels is not None and len(labels) != len(gallery):
        raise ValueError(f"top_k: labels has {len(labels)} entries, the gallery {len(gallery)}")
    dtype = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    form = choose("top_k", queries, gallery, backend=backend, without_triton=_obstacle(len(gallery), k, exclude))
    if form == "triton":
        from .fused import top_k as run
    elif form == "chunked":
        from .chunked import top_k as run
    else:
        from .reference import top_k as run
    with torch.autocast(queries.device.type, enabled=False):
        values, indices = run(queries.detach(), gallery.detach(), k, dtype, exclude, query_ids, gallery_ids)
    if not bool((values[:, 0] < torch.inf).all()):
        raise ValueError(f"top_k: {_fault(queries, gallery)}; such a score has no rank")
    indices = indices.masked_fill(values == -torch.inf, -1)
    return Hits(values, indices, None if labels is None else labels[indices.clamp_min(0).to(labels.device)])


@torch.no_grad()
def knn_vote(
    queries: Tensor,
    gallery: Tensor,
    labels: Tensor,
    k: int,
    classes: int | None = None,
    *,
    weights: Literal["exponential", "uniform"] = "exponential",
    temperature: float = 0.07,
    exclude: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Class scores by the vote of the k nearest neighbors; `argmax(1)` predicts.

    Args:
        queries: [Q, D]. gallery: [G, D], usually normalized. labels: int64 [G], in 0..classes-1.
        k: neighbors; more than the gallery holds means all of it.
        classes: number of classes; by default the largest label plus 1.
        weights: "exponential" gives a neighbor exp(similarity / temperature) (Wu et al., 2018), "uniform" gives 1.
        exclude: as in `top_k` (leave-one-out: `torch.arange(Q)`).

    Returns:
        [Q, classes], rows summing to 1 (to 0 where every neighbor was excluded). No gradient.

    Cost: that of `top_k`.
    """
    if labels.shape != (len(gallery),) or labels.is_floating_point():
        raise ValueError(f"knn_vote: labels are integers [{len(gallery)}], got {labels.dtype} {list(labels.shape)}")
    if weights not in ("exponential", "uniform"):
        raise ValueError(f"knn_vote: weights is {weights!r}; known are exponential, uniform")
    if weights == "exponential":
        positive("knn_vote", temperature)
    count = int(labels.max()) + 1 if classes is None else classes
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise ValueError(f"knn_vote: labels lie in 0..{count - 1}, found {int(labels.min())}..{int(labels.max())}")
    hits = top_k(queries, gallery, min(k, len(gallery)), exclude=exclude, labels=labels, backend=backend)
    assert hits.labels is not None
    found = hits.indices >= 0
    if weights == "exponential":
        # The best neighbor is subtracted, which changes nothing after the division and keeps the exponential finite.
        best = hits.values[:, :1].masked_fill(~found[:, :1], 0.0)
        share = ((hits.values - best) / temperature).exp().masked_fill(~found, 0.0)
    else:
        share = found.to(hits.values.dtype)
    # One class at a time per neighbor rank: additions happen in the order of rank on every device.
    votes = share.new_zeros(len(queries), count)
    rows = torch.arange(len(queries), device=votes.device)
    own = hits.labels.to(votes.device)
    for rank in range(share.shape[1]):
        votes[rows, own[:, rank]] += share[:, rank]
    return votes / votes.sum(1, keepdim=True).clamp_min(torch.finfo(votes.dtype).tiny)


def _fault(queries: Tensor, gallery: Tensor) -> str:
    """Where a score that is NaN or +inf comes from."""
    for name, rows in (("queries", queries), ("gallery", gallery)):
        bad = (~rows.isfinite().all(1)).nonzero().flatten()
        if len(bad):
            return f"{len(bad)} of the {len(rows)} rows of {name} hold NaN or infinity, the first is row {int(bad[0])}"
    return "an inner product of finite rows overflows"


def _obstacle(entries: int, k: int, exclude: Tensor | None) -> str:
    """Why the Triton form does not take these arguments, or an empty string."""
    if k > 128:
        return f"k is {k}, and it keeps at most 128 entries of a query"
    if exclude is not None and exclude.shape[1] > 64:
        return f"{exclude.shape[1]} entries are excluded per query, and it takes at most 64"
    return f"the gallery has {entries} entries, and positions are 32 bits" if entries > 2_000_000_000 else ""
