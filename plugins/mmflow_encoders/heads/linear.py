"""The linear projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, TensorType
from mmflow_encoders.declared import width_of
from mmflow_encoders.inputs import VECTORS, Sequences, projected

if TYPE_CHECKING:
    from torch import nn


class Linear(Encoder, name="linear"):
    """A linear map of the last axis: activation(x W^T + b). Takes vectors [N, D], tokens or a grid.

    Also as the `head` of an encoder, or for each token as its `tokens`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: vit, of: image, head: {use: linear, dim: 128}}"

    of: Sequences = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    dim: int = Field(ge=1, le=10_000_000, description="width of the result")
    bias: bool = Field(True, description="whether a constant is added")
    activation: Literal["none", "relu", "gelu", "tanh", "silu", "elu"] = Field("none", description="of the result")
    l2norm: bool = Field(False, description="scale the result to length one")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return projected(inputs[0], self.dim)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.projection import LinearProjection

        return LinearProjection(
            width_of(self.use, inputs[0]), self.dim, bias=self.bias, activation=self.activation, l2norm=self.l2norm
        )
