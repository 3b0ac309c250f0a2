"""A table of prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, Pooled, RawField, Refs, TensorType
from mmflow_encoders.declared import Width

if TYPE_CHECKING:
    from torch import nn


class PrototypeVectors(Encoder, name="prototype_vectors"):
    """Learned vectors that belong to no sample (prototypes, class weights): `pooled` [count, dim], axis `prototype`.

    It has no input. A loss or a score uses it as a part, weights included (`prototypes: parts.protos`).
    """

    example: ClassVar[str] = (
        "parts: {protos: {use: encoder/prototype_vectors, count: 300, dim: 128, constrain: unit_rows}}"
    )

    of: Refs[Pooled | RawField] = Field((), max_length=0)
    count: int = Field(ge=1, le=100_000_000, description="number of vectors")
    dim: Width = Field(description="of a vector")
    start: Literal["normal", "uniform", "unit"] = Field(
        "normal", description="N(0, 1); uniform in [0, 1); or uniform on the sphere of radius one"
    )

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", ("prototype",), (self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.tables import Prototypes

        return Prototypes(self.count, self.dim, start=self.start)
