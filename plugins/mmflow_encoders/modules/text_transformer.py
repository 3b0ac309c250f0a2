"""The module of `text_transformer`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask, through
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.pooling import LatentPool
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
        self.pooling = LatentPool(width, heads, mlp_ratio) if pool == "attention" else None
        initialize(self)

    def forward(self, text: Tokens, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        given, mask = text
        embedded = given.is_floating_point()
        if given.shape[1] > self.positions.shape[1]:
            raise ValueError(f"texts of {given.shape[1]} ids; the encoder's `length` is {self.positions.shape[1]}")
        words = given if embedded else self.words(given)
        x = words + self.positions[:, : words.shape[1]]
        known = mask
        if self.classify is not None:
            # Under a causal mask the class token comes last, so that it sees every token and no token sees it.
            parts = [x, self.classify.expand(len(x), -1, -1)]
            x = torch.cat(parts if self.causal else parts[::-1], dim=1)
            ones = mask.new_ones(len(mask), 1)
            known = torch.cat([mask, ones] if self.causal else [ones, mask], dim=1)
        x, states, maps = through(self.blocks, self.drop(x), attention_mask(known, causal=self.causal), taps)
        x = self.norm(x)
        tokens = self._tokens_of(x)
        outputs: dict[str, Tensor | Tokens] = {n: Tokens(self._tokens_of(s), mask) for n, s in states.items()}
        if "words" in taps:
            outputs["words"] = Tokens(words, mask)
        if self.pooling is not None:
            pooled = self.pooling(tokens, mask, maps if "attention.pool" in taps else None, "attention.pool")
        else:
            pooled = self._pooled(x, tokens, None if embedded else given, mask)
        outputs.update(maps)
        outputs.update({"pooled": pooled, "tokens": Tokens(tokens, mask)})
        return outputs if embedded else {**outputs, "ids": text}

    def _tokens_of(self, x: Tensor) -> Tensor:
        if self.classify is None:
            return x
        return x[:, :-1] if self.causal else x[:, 1:]

    def _pooled(self, x: Tensor, tokens: Tensor, ids: Tensor | None, mask: Tensor) -> Tensor:
        if self.pool == "cls":
            return x[:, -1] if self.causal else x[:, 0]
        if self.pool == "mean":
            return masked_mean(tokens, mask)
        places = torch.arange(mask.shape[1], device=mask.device)
        place = (places * mask).amax(dim=1)
        if self.pool == "eos" and self.end is not None and ids is not None:
            ends = torch.where(mask & (ids == self.end), places, mask.shape[1]).amin(dim=1)
            place = torch.minimum(place, ends)
        return tokens.gather(1, place[:, None, None].expand(-1, 1, tokens.shape[2])).squeeze(1)
