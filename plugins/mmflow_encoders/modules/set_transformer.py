"""The module of `set_transformer`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Attention, Block, Maps, attention_mask, feed_forward, through
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.pooling import LatentPool
from mmflow_encoders.modules.sequences import as_tokens, masked_max, masked_mean
from mmflow_encoders.modules.tower import Outputs


class SetTransformer(nn.Module):
    """A projection, blocks of full or induced self-attention, a final norm, pooling. No positions."""

    def __init__(
        self, *, channels: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float, pool: str,
        inducing: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pool = pool
        self.project = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            InducedBlock(width, heads, mlp_ratio, dropout, inducing)
            if inducing
            else Block(width, heads, mlp_ratio, dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pooling = LatentPool(width, heads, mlp_ratio) if pool == "attention" else None
        initialize(self)

    def forward(self, members: Tensor | Tokens, taps: Sequence[str] = ()) -> Outputs:
        x, mask = as_tokens(members)
        x, states, maps = through(self.blocks, self.project(x), attention_mask(mask), taps)
        x = self.norm(x)
        if self.pooling is not None:
            pooled = self.pooling(x, mask, maps if "attention.pool" in taps else None, "attention.pool")
        else:
            pooled = masked_mean(x, mask) if self.pool == "mean" else masked_max(x, mask)
        layers = {name: Tokens(state, mask) for name, state in states.items()}
        return {"pooled": pooled, "tokens": Tokens(x, mask), **layers, **maps}


class InducedBlock(nn.Module):
    """Self-attention through learned points: the points attend to the set, then the set to the points, then an MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float, points: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.empty(1, points, width))
        self.norm_gather = nn.LayerNorm(width)
        self.gather = Attention(width, heads, dropout, width)
        self.norm_points = nn.LayerNorm(width)
        self.norm_spread = nn.LayerNorm(width)
        self.spread = Attention(width, heads, dropout, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = feed_forward(width, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, allowed: Tensor | None, memory: None = None, memory_allowed: None = None,
        *, maps: Maps | None = None, number: int = 0,
    ) -> Tensor:  # fmt: skip
        points = self.points.expand(len(x), -1, -1)
        points = points + self.drop(self.gather(points, self.norm_gather(x), allowed))
        spread = self.spread(self.norm_spread(x), self.norm_points(points), None, maps, f"attention.{number}")
        x = x + self.drop(spread)
        return x + self.mlp(self.norm_mlp(x))
