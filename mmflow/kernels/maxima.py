"""Maxima with their places over an outer axis of a tile."""

import torch
from torch import Tensor


def first_maxima(tile: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima [B, C] and the first index of each over the middle axis of [B, K, C]; NaN is the largest."""
    if tile.device.type == "cpu" and tile.shape[2] > 1:
        # Pooling a channels-last image is the one vectorized maximum with index over an outer axis.
        best, index = torch.ops.aten.max_pool2d_with_indices(tile.unsqueeze(2).permute(0, 3, 1, 2), [tile.shape[1], 1])
        return best.flatten(1), index.flatten(1)
    best = tile.max(1)
    return best.values, best.indices
