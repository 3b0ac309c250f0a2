"""Vectors joined by their elementwise product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, Pooled, RawField, Refs, TensorType
from mmflow_encoders.declared import Width, vector_like, width_of
from mmflow_encoders.inputs import MOST

if TYPE_CHECKING:
    from torch import nn


class Product(Encoder, name="product"):
    """The elementwise product of vectors, scaled: `pooled` [N, D] = scale * x_1 * x_2 * ...

    With `dim` each vector is projected first: activation(W_i x_i + b_i), which makes a low-rank bilinear map of two
    (Kim et al., 2017). Without, there are no weights and all inputs have one width.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector", "logits"),) * MOST
    example: ClassVar[str] = "{use: product, of: [image, text], dim: 512, activation: tanh}"

    of: Refs[Pooled | RawField] = Field(min_length=2, max_length=MOST)
    dim: Width | None = Field(None, description="width of the projections; unset: no projections")
    activation: Literal["none", "relu", "gelu", "tanh", "silu", "elu"] = Field("none", description="of projections")
    scale: float = Field(1.0, ge=-1e6, le=1e6, description="factor of the product")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": vector_like(inputs[0], self.dim or width_of(self.use, *inputs))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.joining import ProductOf

        widths = [width_of(self.use, given) for given in inputs]
        return ProductOf(widths=widths, dim=self.dim, activation=self.activation, scale=self.scale)
