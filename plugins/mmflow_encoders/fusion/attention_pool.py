"""Pooling by attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import (
    Encoder,
    TensorType,
)
from mmflow_encoders.declared import check_heads, width_of
from mmflow_encoders.fusion.inputs import SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class AttentionPool(Encoder, name="attention_pool"):
    """Learned queries attend once to tokens or a grid (attentional pooling; Lee et al., 2019; CoCa, Yu et al., 2022).

    x = norm(MultiHead(queries, norm(input))). Outputs: `tokens` [N, queries, width]; `pooled` [N, width], their mean.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,)
    example: ClassVar[str] = "{use: attention_pool, of: patches.tokens, queries: 1, head: {use: linear, dim: 512}}"

    of: Sequences = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    queries: int = Field(1, ge=1, description="number of learned queries")
    width: int | None = Field(None, ge=1, description="of the queries; the width of the input where unset")
    heads: int = Field(4, ge=1, description="must divide width")
    dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights")

    def draws(self) -> bool:
        return self.dropout > 0

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        width = self.width or (given.size[-1] if given.size else None)
        vector = TensorType("vector", given.axes, (width,), groups=given.groups)
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(self.queries, width))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.attention_pool import AttentionPool as Module

        memory = width_of(self.use, *inputs)
        width = self.width or memory
        check_heads(width, self.heads)
        return Module(queries=self.queries, width=width, memory_width=memory, heads=self.heads, dropout=self.dropout)
