"""Declarations of projections: linear, MLP, unit length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Encoder, PositiveInt, TensorType
from mmflow.plugin.kinds import Scope

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmflow.plugin import Tokens

VECTORS = ("vector", "tokens", "grid", "logits")


class Linear(Encoder, name="linear"):
    """A linear map of the last axis: activation(x W^T + b). Takes vectors [N, D], tokens or a grid.

    Also as the `head` of an encoder, or for each token as its `tokens`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: vit, of: image, head: {use: linear, dim: 128}}"

    dim: int = Field(ge=1, description="width of the result")
    bias: bool = Field(True, description="whether a constant is added")
    activation: Literal["none", "relu", "gelu", "tanh", "silu", "elu"] = Field("none", description="of the result")
    l2norm: bool = Field(False, description="scale the result to length one")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return _projected(inputs[0], self.dim)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.projection import LinearProjection

        return LinearProjection(
            _width(self.use, inputs[0]), self.dim, bias=self.bias, activation=self.activation, l2norm=self.l2norm
        )


class Mlp(Encoder, name="mlp"):
    """Linear layers with norm, activation and dropout between them; none of the three after the last.

    `dims` lists the widths after the input. With `norm: batch` (as in SimCLR; Chen et al., 2020) the node sees the
    whole batch, so that micro-batches change nothing; tokens that are padding are then left out of the statistics.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: mlp, of: image, dims: [2048, 128], norm: batch}"

    dims: tuple[PositiveInt, ...] = Field(min_length=1, description="widths of the layers after the input")
    activation: Literal["relu", "gelu", "tanh", "silu", "elu"] = Field("gelu", description="between layers")
    norm: Literal["none", "layer", "batch"] = Field("none", description="between layers, before the activation")
    dropout: float = Field(0.0, ge=0, lt=1, description="between layers, after the activation")
    bias: bool = Field(True, description="whether a constant is added")
    l2norm: bool = Field(False, description="scale the result to length one")

    def scope(self) -> Scope:
        return "batch" if self.norm == "batch" and len(self.dims) > 1 else "row"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return _projected(inputs[0], self.dims[-1])

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.projection import MultilayerProjection

        return MultilayerProjection(
            (_width(self.use, inputs[0]), *self.dims),
            activation=self.activation,
            norm=self.norm,
            dropout=self.dropout,
            bias=self.bias,
            l2norm=self.l2norm,
        )


class L2Norm(Encoder, name="l2norm"):
    """Scales vectors (each token or place of a sequence or grid) to length one: x / ||x||. No weights."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: l2norm, of: image}"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {_output(inputs[0]): inputs[0]}

    def apply(self, x: Tensor | Tokens) -> Any:
        from torch.nn.functional import normalize

        from mmflow.plugin import Tokens

        if isinstance(x, Tokens):
            return {"tokens": Tokens(normalize(x.values, dim=-1), x.mask)}
        return {"grid": normalize(x, dim=-1)} if x.ndim == 4 else normalize(x, dim=-1)


def _projected(given: TensorType, dim: int) -> Mapping[str, TensorType]:
    modality = given.modality if given.modality in ("tokens", "grid") else "vector"
    return {_output(given): given.with_(modality=modality, size=(*given.size[:-1], dim), names=())}


def _output(given: TensorType) -> str:
    return given.modality if given.modality in ("tokens", "grid") else "pooled"


def _width(name: str, given: TensorType) -> int:
    if not given.size or given.size[-1] is None:
        raise ComponentError(f"{name} needs an input of known width", found=f"{given.modality} {list(given.size)}")
    return given.size[-1]
