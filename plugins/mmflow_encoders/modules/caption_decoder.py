"""The module of `caption_decoder`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import as_tokens, join


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
