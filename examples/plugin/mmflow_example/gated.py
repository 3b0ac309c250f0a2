"""An encoder with weights: `build` returns a module, and torch is imported only then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import Encoder, TensorType

if TYPE_CHECKING:
    import torch


class GatedLinear(Encoder, name="gated_linear"):
    """A linear layer gated by a second one (GLU; Dauphin et al., 2017): (xW + b) * sigmoid(xV + c)."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector",),)
    example: ClassVar[str] = "{use: gated_linear, of: image, dim: 32}"

    dim: int = Field(64, ge=1, le=65536, description="size of the output")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(self.dim,), dtype="float32")}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        from torch import nn

        (size,) = inputs[0].size
        return nn.Sequential(nn.Linear(size or 1, 2 * self.dim), nn.GLU(dim=-1))
