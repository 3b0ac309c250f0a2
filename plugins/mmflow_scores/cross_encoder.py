"""A score that reads two rows together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import Score, outside_identity

if TYPE_CHECKING:
    from torch import nn


class CrossEncoder(Score, name="cross_encoder"):
    """A transformer over the tokens of two rows, one after the other; its first state becomes a number (Nogueira and
    Cho, 2019): costly, so for pairs, or to order again what cheap vectors have found.

    Tokens of both sides are `width` wide. Each side has an embedding of its own, and dropout there is none. Named in
    `parts`, it is trained by a loss and used by evaluations: `score: parts.judge`, `second: parts.judge`.
    """

    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    example: ClassVar[str] = "parts: {judge: {use: score/cross_encoder, width: 256, depth: 2}}"

    width: int = Field(256, ge=1, le=65_536, description="of the tokens of both sides")
    depth: int = Field(1, ge=1, le=64, description="blocks of the transformer")
    heads: int = Field(2, ge=1, le=1024, description="number of attention heads; must divide the width")
    rows: int = outside_identity(256, ge=1, le=1_000_000, description="pairs that are scored at a time")

    @model_validator(mode="after")
    def _divided(self) -> CrossEncoder:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide the width {self.width}")
        return self

    def build(self) -> nn.Module:
        from mmflow_scores.modules import CrossScore

        return CrossScore(self.width, self.depth, self.heads, self.rows)
