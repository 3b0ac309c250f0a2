"""Multi-head attention, the pre-norm block and masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of `x` [N, L, D] to itself, or to `memory` [N, M, C] where it is given."""

    def __init__(self, width: int, heads: int, dropout: float, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width if memory_width is None else memory_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None, allowed: Tensor | None) -> Tensor:
        key, value = self.key_value(x if memory is None else memory).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(key),
            self._split(value),
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block; attends to a memory between self-attention and MLP where it has `memory_width`."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, dropout: float, memory_width: int | None = None
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, dropout)
        self.norm_cross = None if memory_width is None else nn.LayerNorm(width)
        self.cross_attention = None if memory_width is None else Attention(width, heads, dropout, memory_width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, allowed: Tensor | None, memory: Tensor | None = None, memory_allowed: Tensor | None = None
    ) -> Tensor:
        x = x + self.drop(self.self_attention(self.norm_self(x), None, allowed))
        if self.norm_cross is not None and self.cross_attention is not None:
            x = x + self.drop(self.cross_attention(self.norm_cross(x), memory, memory_allowed))
        return x + self.mlp(self.norm_mlp(x))


def attention_mask(mask: Tensor, *, causal: bool = False) -> Tensor:
    """Allowed pairs of query and key, bool [N, 1, 1 or L, L]. A row without any real token attends freely, which keeps
    it finite; its result is never read."""
    if not causal:
        return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
    length = mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((mask[:, None, :] & before) | own)[:, None]
