"""Pooling by attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import TensorType
from mmflow_encoders.declared import (
    HEADS,
    Dropping,
    Heads,
    Share,
    Width,
    check_heads,
    length_of,
    map_like,
    tokens_like,
    vector_like,
    width_of,
)
from mmflow_encoders.inputs import SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class AttentionPool(Dropping, name="attention_pool"):
    """Queries attend once to tokens or a grid (attentional pooling; Lee et al., 2019; CoCa, Yu et al., 2022).

    x = norm(MultiHead(queries, norm(input))). Outputs: `tokens` [N, Q, width], one for each query; `pooled`
    [N, width], their mean. Tap: `attention.1`, the map [N, heads, Q, L].

    The queries are learned. A second input conditions them: a vector is projected and added to each learned query;
    tokens or a grid are projected and are the queries themselves, and padded queries are padding in `tokens`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES, SEQUENCES)
    example: ClassVar[str] = "{use: attention_pool, of: patches.tokens, queries: 1, head: {use: linear, dim: 512}}"

    of: Sequences = Field(min_length=1, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    queries: int = Field(1, ge=1, le=65_536, description="number of learned queries")
    width: Width | None = Field(None, description="of the queries; the width of the input where unset")
    heads: Heads = Field(4, description=HEADS)
    dropout: Share = Field(0.0, description="of attention weights")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        width = self.width or (given.size[-1] if given.size else None)
        queries = self.queries if self._learned(*inputs) else length_of(inputs[1])
        return {
            "pooled": vector_like(given, width),
            "tokens": tokens_like(given, queries, width),
            "attention.1": map_like(given, self.heads, queries, length_of(given)),
        }

    def taps(self) -> tuple[str, ...]:
        return ("attention.1",)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.attention_pool import AttentionPool as Module

        memory = width_of(self.use, inputs[0])
        width = self.width or memory
        check_heads(width, self.heads)
        return Module(
            queries=self.queries if self._learned(*inputs) else 0,
            width=width,
            memory_width=memory,
            condition_width=width_of(self.use, inputs[1]) if len(inputs) == 2 else None,
            heads=self.heads,
            dropout=self.dropout,
        )

    def _learned(self, *inputs: TensorType) -> bool:
        """Whether there are learned queries; tokens and grids take their place."""
        return len(inputs) == 1 or inputs[1].modality == "vector"
