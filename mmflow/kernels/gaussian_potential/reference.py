"""Uniformity by its definition."""

import math

import torch
from torch import Tensor


def uniformity(x: Tensor, t: float) -> Tensor:
    n = len(x)
    distance = (x[:, None] - x[None]).square().sum(2)
    off = ~torch.eye(n, dtype=torch.bool, device=x.device)
    return torch.logsumexp(-t * distance[off], 0) - math.log(n * (n - 1))
