"""Multi-head attention, the pre-norm block, stacks of blocks with taps, and masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = dict[str, Tensor]
"""Attention maps [N, heads, L, M] by the names of the taps that asked for them."""


class Attention(nn.Module):
    """Multi-head attention of `x` [N, L, D] to itself, or to `memory` [N, M, C] where it is given."""

    def __init__(self, width: int, heads: int, dropout: float, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width if memory_width is None else memory_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, memory: Tensor | None, allowed: Tensor | None, maps: Maps | None = None, name: str = ""
    ) -> Tensor:
        """`maps` receives the attention weights under `name`, without dropout; they are computed only for it."""
        keys, values = self.key_value(x if memory is None else memory).chunk(2, dim=-1)
        query, key, value = self._split(self.query(x)), self._split(keys), self._split(values)
        if maps is not None:
            maps[name] = attention_map(query, key, allowed)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attention_map(query: Tensor, key: Tensor, allowed: Tensor | None) -> Tensor:
    """softmax(query key^T / sqrt(d)) over the allowed keys: [N, heads, L, d], [N, heads, M, d] -> [N, heads, L, M]."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(dim=-1)


class Block(nn.Module):
    """Pre-norm transformer block; attends to a memory between self-attention and MLP where it has `memory_width`."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, dropout: float, memory_width: int | None = None
    ) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, dropout)
        self.norm_cross = None if memory_width is None else nn.LayerNorm(width)
        self.cross_attention = None if memory_width is None else Attention(width, heads, dropout, memory_width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = feed_forward(width, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, allowed: Tensor | None, memory: Tensor | None = None, memory_allowed: Tensor | None = None,
        *, maps: Maps | None = None, number: int = 0,
    ) -> Tensor:  # fmt: skip
        attended = self.self_attention(self.norm_self(x), None, allowed, maps, f"attention.{number}")
        x = x + self.drop(attended)
        if self.norm_cross is not None and self.cross_attention is not None:
            attended = self.cross_attention(self.norm_cross(x), memory, memory_allowed, maps, f"cross.{number}")
            x = x + self.drop(attended)
        return x + self.mlp(self.norm_mlp(x))


def feed_forward(width: int, mlp_ratio: float, dropout: float) -> nn.Sequential:
    """The MLP of a block: a hidden layer of `mlp_ratio` times the width, with GELU."""
    hidden = int(width * mlp_ratio)
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )


def through(
    blocks: Iterable[nn.Module], x: Tensor, allowed: Tensor | None, taps: Collection[str],
    memory: Tensor | None = None, memory_allowed: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Maps]:  # fmt: skip
    """`x` after all blocks, the states after the blocks `layers.N` in `taps`, and the maps that `taps` names.

    Maps are `attention.N`, of a sequence to itself, and `cross.N`, of a sequence to the memory.
    """
    states: dict[str, Tensor] = {}
    maps: Maps = {}
    for number, block in enumerate(blocks, 1):
        asked = f"attention.{number}" in taps or f"cross.{number}" in taps
        x = block(x, allowed, memory, memory_allowed, maps=maps if asked else None, number=number)
        if f"layers.{number}" in taps:
            states[f"layers.{number}"] = x
    return x, states, {name: found for name, found in maps.items() if name in taps}


def attention_mask(mask: Tensor, *, causal: bool = False) -> Tensor:
    """Allowed pairs of query and key, bool [N, 1, 1 or L, L]. A row without any real token attends freely, which keeps
    it finite; its result is never read."""
    if not causal:
        return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
    length = mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((mask[:, None, :] & before) | own)[:, None]
