"""The module of `cross_attention`."""

from __future__ import annotations

from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import as_tokens, join, masked_mean


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
