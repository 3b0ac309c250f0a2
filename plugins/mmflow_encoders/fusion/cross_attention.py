"""Sequences that attend to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import TensorType
from mmflow_encoders.declared import (
    Blocks,
    Depth,
    check_heads,
    layer_names,
    length_of,
    map_like,
    map_names,
    tapped,
    tokens_like,
    vector_like,
    width_of,
)
from mmflow_encoders.inputs import MOST, SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class CrossAttention(Blocks, name="cross_attention"):
    """Transformer blocks in which the first sequence attends to itself and to the others (ALBEF; Li et al., 2021).

    `of: [text.tokens, image.tokens, ...]`: the others share one width and are joined. Each block is self-attention,
    cross-attention, MLP, all pre-norm; padding changes nothing. Outputs: `tokens` [N, L, D] with the first input's
    mask; `pooled` [N, D], the first token or the mean of the real tokens. Taps: `layers.1` to `layers.<depth>`, the
    tokens after each block; `attention.1` and so on, their maps [N, heads, L, L]; `cross.1` and so on, the maps
    [N, heads, L, M] to the M joined tokens.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,) * MOST
    example: ClassVar[str] = "{use: cross_attention, of: [text.tokens, image.tokens], depth: 2}"

    renamed: ClassVar[Mapping[str, str]] = {"layers": "depth"}

    of: Sequences = Field(min_length=2, max_length=MOST)  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: Depth = Field(2, description="number of blocks")
    pool: Literal["first", "mean"] = Field("first", description="the first token, or the mean of the real tokens")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        first = inputs[0]
        width = first.size[-1] if first.size else None
        length, lengths = length_of(first), [length_of(given) for given in inputs[1:]]
        memory = None if None in lengths else sum(n for n in lengths if n is not None)
        tokens = tokens_like(first, length, width)
        return {
            "pooled": vector_like(first, width),
            "tokens": tokens,
            **tapped(layer_names(self.depth), tokens),
            **tapped(map_names(self.depth), map_like(first, self.heads, length, length)),
            **tapped(map_names(self.depth, "cross"), map_like(first, self.heads, length, memory)),
        }

    def taps(self) -> tuple[str, ...]:
        return (*layer_names(self.depth), *map_names(self.depth), *map_names(self.depth, "cross"))

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.cross_attention import CrossAttention as Module

        width = width_of(self.use, inputs[0])
        check_heads(width, self.heads)
        return Module(
            width=width,
            memory_width=width_of(self.use, *inputs[1:]),
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
        )
