"""Sinkhorn's iteration by its definition, in the log domain."""

import torch
from torch import Tensor


def sinkhorn(
    x: Tensor, y: Tensor | None, a: Tensor, b: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    scores = x if y is None else x @ y.T
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(iterations):
        g = epsilon * (b.log() - torch.logsumexp((scores + f.unsqueeze(-1)) / epsilon, -2))
        f = epsilon * (a.log() - torch.logsumexp((scores + g.unsqueeze(-2)) / epsilon, -1))
    return f, g
