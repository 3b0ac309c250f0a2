"""The module of `attention_pool`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Attention, Maps, attention_mask
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import all_real, as_tokens, masked_mean
from mmflow_encoders.modules.tower import Outputs


class AttentionPool(nn.Module):
    """Learned queries, a condition, or their sum attend once to a sequence; `queries` is 0 where none are learned."""

    def __init__(
        self, *, queries: int, width: int, memory_width: int, condition_width: int | None, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, queries, width)) if queries else None
        self.norm_memory = nn.LayerNorm(memory_width)
        self.attention = Attention(width, heads, dropout, memory_width)
        self.norm = nn.LayerNorm(width)
        self.condition = None if condition_width is None else nn.Linear(condition_width, width)
        initialize(self)

    def forward(
        self, sequence: Tensor | Tokens, condition: Tensor | Tokens | None = None, taps: Sequence[str] = ()
    ) -> Outputs:
        memory = as_tokens(sequence)
        queries, mask = self._queries(len(memory.values), condition)
        maps: Maps | None = {} if "attention.1" in taps else None
        allowed = attention_mask(memory.mask)
        x = self.norm(self.attention(queries, self.norm_memory(memory.values), allowed, maps, "attention.1"))
        if mask is None:
            return {"pooled": x.mean(dim=1), "tokens": all_real(x), **(maps or {})}
        return {"pooled": masked_mean(x, mask), "tokens": Tokens(x, mask), **(maps or {})}

    def _queries(self, rows: int, condition: Tensor | Tokens | None) -> tuple[Tensor, Tensor | None]:
        """The queries [N, Q, D], and which of them are real; None for all."""
        if self.condition is None or condition is None:
            assert self.queries is not None
            return self.queries.expand(rows, -1, -1), None
        values, mask = as_tokens(condition)
        projected = self.condition(values)
        if self.queries is None:
            return projected, mask
        return self.queries + projected, None
