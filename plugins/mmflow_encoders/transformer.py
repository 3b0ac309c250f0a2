"""Transformer modules: pre-norm blocks, image and text towers, the caption decoder, pooling and fusion.

All of them run on rows [N, ...] without data-dependent control flow, so that fake and meta tensors pass through.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin.values import Tokens


class Attention(nn.Module):
    """Multi-head attention of `x` [N, L, D] to itself, or to `memory` [N, M, C] where one is given."""

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


class ImageTransformer(nn.Module):
    """Patches, class token, learned positions, blocks, final norm."""

    def __init__(
        self, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, pool: str, mean: float, std: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.side, self.pool, self.mean, self.std = size // patch, pool, mean, std
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.positions = nn.Parameter(torch.empty(1, self.side**2 + (pool == "cls"), width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialize(self)

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        x = self.patches((image - self.mean) / self.std).flatten(2).transpose(1, 2)
        if self.classify is not None:
            x = torch.cat([self.classify.expand(len(x), -1, -1), x], dim=1)
        x = self.drop(x + self.positions)
        extra = x.shape[1] - self.side**2
        outputs: dict[str, Tensor | Tokens] = {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x, None)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = _all_real(x[:, extra:])
        x = self.norm(x)
        tokens = x[:, extra:]
        outputs["pooled"] = x[:, 0] if self.pool == "cls" else tokens.mean(dim=1)
        outputs["tokens"] = _all_real(tokens)
        outputs["grid"] = tokens.unflatten(1, (self.side, self.side))
        return outputs


class TextTransformer(nn.Module):
    """Token embeddings, learned positions, blocks, final norm. See the declaration for what `pool` means."""

    def __init__(
        self, *, vocabulary: int, length: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float,
        causal: bool, pool: str, end: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.causal, self.pool, self.end = causal, pool, end
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(1, length, width))
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialize(self)

    def forward(self, text: Tokens, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        ids, mask = text
        if ids.shape[1] > self.positions.shape[1]:
            raise ValueError(f"texts of {ids.shape[1]} ids; the encoder's `length` is {self.positions.shape[1]}")
        x = self.words(ids) + self.positions[:, : ids.shape[1]]
        known = mask
        if self.classify is not None:
            # The class token stands where it sees every token and no token sees it under a causal mask.
            parts = [x, self.classify.expand(len(x), -1, -1)]
            x = torch.cat(parts if self.causal else parts[::-1], dim=1)
            ones = mask.new_ones(len(mask), 1)
            known = torch.cat([mask, ones] if self.causal else [ones, mask], dim=1)
        x = self.drop(x)
        allowed = attention_mask(known, causal=self.causal)
        outputs: dict[str, Tensor | Tokens] = {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x, allowed)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = Tokens(self._words_of(x), mask)
        x = self.norm(x)
        words = self._words_of(x)
        outputs["pooled"] = self._pooled(x, words, ids, mask)
        outputs["tokens"] = Tokens(words, mask)
        outputs["ids"] = text
        return outputs

    def _words_of(self, x: Tensor) -> Tensor:
        if self.classify is None:
            return x
        return x[:, :-1] if self.causal else x[:, 1:]

    def _pooled(self, x: Tensor, words: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        if self.pool == "cls":
            return x[:, -1] if self.causal else x[:, 0]
        if self.pool == "mean":
            return masked_mean(words, mask)
        places = torch.arange(ids.shape[1], device=ids.device)
        place = (places * mask).amax(dim=1)
        if self.pool == "eos" and self.end is not None:
            ends = torch.where(mask & (ids == self.end), places, ids.shape[1]).amin(dim=1)
            place = torch.minimum(place, ends)
        return words.gather(1, place[:, None, None].expand(-1, 1, words.shape[2])).squeeze(1)


class CaptionDecoder(nn.Module):
    """Blocks of causal self-attention and cross-attention over text states or ids, and logits over the vocabulary."""

    def __init__(
        self, *, vocabulary: int, width: int, memory_width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, length: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words = None if length is None else nn.Embedding(vocabulary, width)
        self.positions = None if length is None else nn.Parameter(torch.empty(1, length, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout, memory_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary)
        initialize(self)

    def forward(self, text: Tokens, *memories: Tensor | Tokens) -> dict[str, Tokens]:
        x, mask = text
        if self.words is not None and self.positions is not None:
            x = self.words(x) + self.positions[:, : x.shape[1]]
        memory = join([as_tokens(m) for m in memories])
        allowed, memory_allowed = attention_mask(mask, causal=True), attention_mask(memory.mask)
        for block in self.blocks:
            x = block(x, allowed, memory.values, memory_allowed)
        return {"logits": Tokens(self.logits(self.norm(x)), mask)}


class AttentionPool(nn.Module):
    """Learned queries attend once to a sequence."""

    def __init__(self, *, queries: int, width: int, memory_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, queries, width))
        self.norm_memory = nn.LayerNorm(memory_width)
        self.attention = Attention(width, heads, dropout, memory_width)
        self.norm = nn.LayerNorm(width)
        initialize(self)

    def forward(self, sequence: Tensor | Tokens) -> dict[str, Tensor | Tokens]:
        memory = as_tokens(sequence)
        queries = self.queries.expand(len(memory.values), -1, -1)
        x = self.norm(self.attention(queries, self.norm_memory(memory.values), attention_mask(memory.mask)))
        return {"pooled": x.mean(dim=1), "tokens": _all_real(x)}


class CrossAttention(nn.Module):
    """Blocks in which the first sequence attends to itself and to the others."""

    def __init__(
        self, *, width: int, memory_width: int, depth: int, heads: int, mlp_ratio: float, dropout: float, pool: str
    ) -> None:
        super().__init__()
        self.pool = pool
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout, memory_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialize(self)

    def forward(self, sequence: Tensor | Tokens, *memories: Tensor | Tokens) -> dict[str, Tensor | Tokens]:
        x, mask = as_tokens(sequence)
        memory = join([as_tokens(m) for m in memories])
        allowed, memory_allowed = attention_mask(mask), attention_mask(memory.mask)
        for block in self.blocks:
            x = block(x, allowed, memory.values, memory_allowed)
        x = self.norm(x)
        return {"pooled": x[:, 0] if self.pool == "first" else masked_mean(x, mask), "tokens": Tokens(x, mask)}


def attention_mask(mask: Tensor, *, causal: bool = False) -> Tensor:
    """Who may attend to whom, bool [N, 1, 1 or L, L]. A row without any real token attends freely, which keeps it
    finite; what it gives is never read."""
    if not causal:
        return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
    length = mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((mask[:, None, :] & before) | own)[:, None]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: [N, L, D] and bool [N, L] -> [N, D]; zero where there is none."""
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def as_tokens(sequence: Tensor | Tokens) -> Tokens:
    """Tokens [N, L, D] of what may be tokens, a plain sequence [N, L, D], a grid [N, H, W, D] or one vector [N, D]."""
    if isinstance(sequence, Tokens):
        return sequence
    return _all_real(sequence.unsqueeze(1) if sequence.ndim == 2 else sequence.flatten(1, -2))


def join(sequences: Sequence[Tokens]) -> Tokens:
    """Sequences of one width, one after the other."""
    if len(sequences) == 1:
        return sequences[0]
    return Tokens(torch.cat([s.values for s in sequences], dim=1), torch.cat([s.mask for s in sequences], dim=1))


def initialize(module: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases (as in GPT; Radford et al., 2018)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def _all_real(x: Tensor) -> Tokens:
    return Tokens(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))


__all__ = [
    "AttentionPool",
    "CaptionDecoder",
    "CrossAttention",
    "ImageTransformer",
    "TextTransformer",
    "as_tokens",
    "attention_mask",
]
