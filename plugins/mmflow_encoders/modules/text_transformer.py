"""The module of `text_transformer`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import masked_mean


class TextTransformer(nn.Module):
    """Token embeddings, learned positions, blocks, final norm. The declaration explains `pool`."""

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
            # Under a causal mask the class token comes last, so that it sees every token and no token sees it.
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
