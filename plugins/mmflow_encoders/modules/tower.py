"""A transformer over tokens with a mask: class token, blocks, final norm, pooling."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask, through
from mmflow_encoders.modules.pooling import LatentPool
from mmflow_encoders.modules.sequences import masked_mean

Outputs = dict[str, Tensor | Tokens]


class SequenceTower(nn.Module):
    """Tokens [N, L, D] with a mask through blocks, pooled by a class token, the mean, or a learned query.

    The class token comes first in maps and is no part of the tokens. Padding changes nothing.
    """

    def __init__(self, *, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float, pool: str) -> None:
        super().__init__()
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pooling = LatentPool(width, heads, mlp_ratio) if pool == "attention" else None

    def forward(self, x: Tensor, mask: Tensor, taps: Collection[str]) -> Outputs:
        known, extra = mask, 0
        if self.classify is not None:
            x, extra = torch.cat([self.classify.expand(len(x), -1, -1), x], dim=1), 1
            known = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        x, states, maps = through(self.blocks, self.drop(x), attention_mask(known), taps)
        x = self.norm(x)
        tokens = x[:, extra:]
        if self.pooling is not None:
            asked = maps if "attention.pool" in taps else None
            pooled = self.pooling(tokens, mask, asked, "attention.pool")
        else:
            pooled = x[:, 0] if self.classify is not None else masked_mean(tokens, mask)
        layers = {name: Tokens(state[:, extra:], mask) for name, state in states.items()}
        return {"pooled": pooled, "tokens": Tokens(tokens, mask), **layers, **maps}
