"""Slot attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, TensorType
from mmflow_encoders.declared import Width, length_of, map_like, tokens_like, vector_like, width_of
from mmflow_encoders.inputs import SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class Slots(Encoder, name="slots"):
    """Slot attention (Locatello et al., 2020): slots compete for the tokens of a sequence or the places of a grid.

    In each iteration the softmax over slots of q(slot) . k(token) / sqrt(width) says which slot a token belongs to;
    each slot takes the mean of v(token), weighted by its share, through a GRU and an MLP. Outputs: `tokens`
    [N, count, width], the slots; `pooled` [N, width], their mean. Tap: `attention.1` [N, 1, count, L], the shares of
    the last iteration, which sum to one over slots at each real token. Padding changes nothing.

    `start: learned` gives each slot a learned start of its own; `drawn` draws all of them from one learned Gaussian in
    training, as published, and spreads them over its quantiles, the same for every row, in evaluation.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,)
    example: ClassVar[str] = "{use: slots, of: image.grid, count: 7, width: 64}"

    of: Sequences = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    count: int = Field(7, ge=1, le=65_536, description="number of slots")
    width: Width = Field(64, description="of a slot")
    iterations: int = Field(3, ge=1, le=64, description="rounds of competition")
    start: Literal["learned", "drawn"] = Field("learned", description="first slots: learned, or drawn in training")
    hidden: Width | None = Field(None, description="of the MLP; unset: twice the width")

    def draws(self) -> bool:
        return self.start == "drawn"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        return {
            "pooled": vector_like(given, self.width),
            "tokens": tokens_like(given, self.count, self.width),
            "attention.1": map_like(given, 1, self.count, length_of(given)),
        }

    def taps(self) -> tuple[str, ...]:
        return ("attention.1",)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.slot_attention import SlotAttention

        return SlotAttention(
            channels=width_of(self.use, inputs[0]),
            count=self.count,
            width=self.width,
            iterations=self.iterations,
            drawn=self.start == "drawn",
            hidden=self.hidden or 2 * self.width,
        )
