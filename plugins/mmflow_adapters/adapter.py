"""The bottleneck adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from mmflow_encoders.declared import width_of
from mmflow_encoders.inputs import VECTORS, Sequences, projected
from pydantic import Field

from mmflow.plugin import Bounds, Encoder, TensorType, Value, default

if TYPE_CHECKING:
    from torch import nn


class Adapter(Encoder, name="adapter"):
    """A small bottleneck MLP, blended with its input (CLIP-Adapter; Gao et al., 2024).

    ratio * A(x) + (1 - ratio) * x with A(x) = activation(W2 activation(W1 x)), W1 of width D / reduction. Takes vectors
    [N, D], tokens or a grid, as they come, not normalized, and gives the same kind. `ratio` 0 is the input itself.
    `start: zero` sets W2 to zero, so that training begins with A = 0.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: adapter, of: image, reduction: 4, ratio: 0.2}"

    of: Sequences = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    reduction: int = Field(4, ge=1, le=65_536, description="how many times narrower than the input the bottleneck is")
    ratio: Annotated[Value, Bounds(ge=0, le=1)] = default(0.2, description="share of the adapter in the result")
    activation: Literal["relu", "gelu", "tanh", "silu", "elu"] = Field("relu", description="of the bottleneck")
    last_activation: bool = Field(True, description="whether the second layer has the activation too")
    bias: bool = Field(False, description="whether a constant is added")
    start: Literal["drawn", "zero"] = Field("drawn", description="initial weights of the second layer")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return projected(inputs[0], width_of(self.use, inputs[0]))

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_adapters.modules import Bottleneck

        return Bottleneck(
            width_of(self.use, inputs[0]),
            reduction=self.reduction,
            activation=self.activation,
            last_activation=self.last_activation,
            bias=self.bias,
            zero=self.start == "zero",
        )
