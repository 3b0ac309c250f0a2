"""Nearest centres by tiles of products, and sums of rows by cluster without atomics."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE_BYTES = 4 << 20


def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.empty(len(x), dtype=torch.int64, device=x.device)
    distance = x.new_empty(len(x))
    half = (centers * centers).sum(1) / 2
    step = max(1, _TILE_BYTES // (len(centers) * x.element_size()))
    for i in range(0, len(x), step):
        rows = x[i : i + step]
        best = torch.addmm(half, rows, centers.T, alpha=-1).min(1)
        index[i : i + step] = best.indices
        # From the difference itself: the product form loses small distances to cancellation.
        distance[i : i + step] = (rows - centers[best.indices]).square().sum(1)
    return index, distance


def sums_by_cluster(x: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sums [k, D] and counts [k] of the rows of each cluster, added in the order of rows."""
    order = labels.sort(stable=True).indices
    counts = torch.bincount(labels, minlength=k)
    offsets = counts.cumsum(0) - counts
    return F.embedding_bag(order, x.contiguous(), offsets, mode="sum"), counts
