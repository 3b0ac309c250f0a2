"""Sequences that attend to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import (
    Encoder,
    TensorType,
)
from mmflow_encoders.declared import check_heads, width_of
from mmflow_encoders.fusion.inputs import SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class CrossAttention(Encoder, name="cross_attention"):
    """Transformer blocks in which the first sequence attends to itself and to the others (ALBEF; Li et al., 2021).

    `of: [text.tokens, image.tokens, ...]`: the others share one width and are joined. Each block is self-attention,
    cross-attention, MLP, all pre-norm; padding changes nothing. Outputs: `tokens` [N, L, D] with the first input's
    mask; `pooled` [N, D], the first token or the mean of the real tokens.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES, SEQUENCES)
    example: ClassVar[str] = "{use: cross_attention, of: [text.tokens, image.tokens], layers: 2}"

    of: Sequences = Field(min_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    layers: int = Field(2, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide the width of the first input")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over the width of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")
    pool: Literal["first", "mean"] = Field("first", description="the first token, or the mean of the real tokens")

    def draws(self) -> bool:
        return self.dropout > 0

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        first = inputs[0]
        width = first.size[-1] if first.size else None
        vector = TensorType("vector", first.axes, (width,), groups=first.groups)
        length = first.size[0] if first.modality == "tokens" and first.size else None
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(length, width))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.cross_attention import CrossAttention as Module

        width = width_of(self.use, inputs[0])
        check_heads(width, self.heads)
        return Module(
            width=width,
            memory_width=width_of(self.use, *inputs[1:]),
            depth=self.layers,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
        )
