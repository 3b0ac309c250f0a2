"""The module of `cross_encoder`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Encoding, Tokens


class CrossScore(nn.Module):
    """Two token sequences -> one number a pair."""

    def __init__(self, width: int, depth: int, heads: int, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.first = nn.Parameter(torch.randn(width) * 0.02)
        self.sides = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks_of = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 1)

    def vectors(self, a: Encoding) -> None:
        """It compares no vectors."""

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        """[N]: row i of one side with row i of the other."""
        left, right = a.tokens, b.tokens
        first = self.first.expand(len(left.values), 1, -1)
        x = torch.cat([first, left.values + self.sides[0], right.values + self.sides[1]], dim=1)
        seen = torch.cat([left.mask.new_ones(len(left.mask), 1), left.mask, right.mask], dim=1)
        for block in self.blocks_of:
            x = block(x, seen)
        return self.out(self.norm(x[:, 0])).squeeze(-1)

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        """[N, M]: every row of one side with every row of the other, some pairs at a time."""
        left, right = a.tokens, b.tokens
        rows = torch.arange(len(left.values), device=left.values.device).repeat_interleave(len(right.values))
        columns = torch.arange(len(right.values), device=rows.device).repeat(len(left.values))
        found = [
            self.pairs(_taken(left, rows[at : at + self.rows]), _taken(right, columns[at : at + self.rows]))
            for at in range(0, len(rows), self.rows)
        ]
        return torch.cat(found).view(len(left.values), len(right.values))


class Block(nn.Module):
    """Attention among the real tokens, and a layer for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.joint, self.last = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        queries, keys, values = self.joint(self.before(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        sides = (part.transpose(1, 2) for part in (queries, keys, values))
        found = F.scaled_dot_product_attention(*sides, attn_mask=seen[:, None, None])
        x = x + self.last(found.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.between(x))))


def _taken(tokens: Tokens, rows: Tensor) -> Encoding:
    return Encoding({"tokens": Tokens(tokens.values[rows], tokens.mask[rows])})
