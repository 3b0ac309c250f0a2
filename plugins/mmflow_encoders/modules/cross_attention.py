"""The module of `cross_attention`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask, through
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import as_tokens, join, masked_mean
from mmflow_encoders.modules.tower import Outputs


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

    def forward(self, sequence: Tensor | Tokens, *memories: Tensor | Tokens, taps: Sequence[str] = ()) -> Outputs:
        x, mask = as_tokens(sequence)
        memory = join([as_tokens(m) for m in memories])
        allowed, memory_allowed = attention_mask(mask), attention_mask(memory.mask)
        x, states, maps = through(self.blocks, x, allowed, taps, memory.values, memory_allowed)
        x = self.norm(x)
        pooled = x[:, 0] if self.pool == "first" else masked_mean(x, mask)
        layers = {name: Tokens(state, mask) for name, state in states.items()}
        return {"pooled": pooled, "tokens": Tokens(x, mask), **layers, **maps}
