"""Nearest centers by tiles of products, and sums of rows by cluster without atomics."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maxima import first_maxima
from ..products import times_transposed

_TILE_BYTES = 4 << 20


def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.empty(len(x), dtype=torch.int64, device=x.device)
    distance = x.new_empty(len(x))
    half = (centers * centers).sum(1, keepdim=True) / 2
    step = min(len(x), max(1, _TILE_BYTES // (len(centers) * x.element_size())))
    buffer = x.new_empty(step * len(centers))
    for i in range(0, len(x), step):
        rows = x[i : i + step]
        # Centers by rows: the maximum then runs over an outer axis.
        scores = times_transposed(centers, rows, buffer[: len(centers) * len(rows)].view(len(centers), -1))
        best = first_maxima(scores.sub_(half)[None])[1][0]
        index[i : i + step] = best
        # From the difference itself: the product form loses small distances to cancellation.
        distance[i : i + step] = (rows - centers.index_select(0, best)).square_().sum(1)
    return index, distance


def sums_by_cluster(x: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sums [k, D] and counts [k] of the rows of each cluster, added in the order of rows."""
    order = labels.sort(stable=True).indices
    counts = torch.bincount(labels, minlength=k)
    offsets = counts.cumsum(0) - counts
    return F.embedding_bag(order, x.contiguous(), offsets, mode="sum"), counts
