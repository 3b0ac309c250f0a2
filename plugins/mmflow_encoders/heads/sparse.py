"""Sparse vectors over a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, RawField, Refs, TensorType, TokenSequence
from mmflow_encoders.declared import width_of

if TYPE_CHECKING:
    from torch import nn


class Sparse(Encoder, name="sparse"):
    """Tokens as one sparse vector over `dim` words: w_j = max_i log(1 + relu(x_i W_j + b_j)) over the real tokens i
    (SPLADE v2; Formal et al., 2021), or their sum.

    With `project: false` the tokens are logits already. Compare with `score: dot`, and keep it sparse with the loss
    `flops`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens",),)
    example: ClassVar[str] = "{use: sparse, of: text.tokens, dim: 30522}"

    of: Refs[TokenSequence | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    dim: int = Field(1000, ge=1, le=10_000_000, description="entries of the vector")
    pool: Literal["max", "sum"] = "max"
    project: bool = Field(True, description="whether tokens are mapped to `dim` entries first")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        width = self.dim if self.project else width_of(self.use, inputs[0])
        return {"pooled": TensorType("vector", inputs[0].axes, (width,), groups=inputs[0].groups)}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.projection import SparseProjection

        return SparseProjection(width_of(self.use, inputs[0]), self.dim if self.project else None, pool=self.pool)
