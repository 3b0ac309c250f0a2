"""The module of `attention_pool`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Attention, attention_mask
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import all_real, as_tokens


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
        return {"pooled": x.mean(dim=1), "tokens": all_real(x)}
