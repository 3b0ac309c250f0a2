"""The multilayer projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Scope, TensorType
from mmflow_encoders.declared import Dropping, Share, Width, width_of
from mmflow_encoders.inputs import VECTORS, Sequences, projected

if TYPE_CHECKING:
    from torch import nn


class Mlp(Dropping, name="mlp"):
    """Linear layers with norm, activation and dropout between them, and none of these after the last layer.

    `dims` lists the widths after the input. With `norm: batch` (as in SimCLR; Chen et al., 2020) the node sees the
    whole batch, so that micro-batches change nothing; padding is left out of the statistics.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: mlp, of: image, dims: [2048, 128], norm: batch}"

    of: Sequences = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    dims: tuple[Width, ...] = Field(min_length=1, description="widths of the layers after the input")
    activation: Literal["relu", "gelu", "tanh", "silu", "elu"] = Field("gelu", description="between layers")
    norm: Literal["none", "layer", "batch"] = Field("none", description="between layers, before the activation")
    dropout: Share = Field(0.0, description="between layers, after the activation")
    bias: bool = Field(True, description="whether a constant is added")
    l2norm: bool = Field(False, description="scale the result to length one")

    def scope(self) -> Scope:
        return "batch" if self.norm == "batch" and len(self.dims) > 1 else "row"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return projected(inputs[0], self.dims[-1])

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.projection import MultilayerProjection

        return MultilayerProjection(
            (width_of(self.use, inputs[0]), *self.dims),
            activation=self.activation,
            norm=self.norm,
            dropout=self.dropout,
            bias=self.bias,
            l2norm=self.l2norm,
        )
