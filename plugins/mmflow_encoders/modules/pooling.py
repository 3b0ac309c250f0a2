"""Pooling of a sequence by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmflow_encoders.modules.attention import Attention, Maps, attention_mask, feed_forward


class LatentPool(nn.Module):
    """A learned query attends to a sequence, followed by an MLP (Zhai et al., 2022): [N, L, D] -> [N, D].

    q = Attention(query, x); pooled = q + MLP(norm(q)).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.attention = Attention(width, heads, 0.0, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = feed_forward(width, mlp_ratio, 0.0)

    def forward(self, x: Tensor, mask: Tensor | None = None, maps: Maps | None = None, name: str = "") -> Tensor:
        allowed = None if mask is None else attention_mask(mask)
        pooled = self.attention(self.latent.expand(len(x), -1, -1), x, allowed, maps, name)
        return (pooled + self.mlp(self.norm(pooled))).squeeze(1)
