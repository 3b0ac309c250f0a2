"""An encoder of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import Encoder, TensorType

if TYPE_CHECKING:
    from torch import nn


class CLASS(Encoder, name="NAME"):
    """Two linear layers with a ReLU between them, over vectors.

    Say here what the encoder is, with the paper.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector",),)
    example: ClassVar[str] = "{use: NAME, of: body, dim: 32}"

    dim: int = Field(64, ge=1, le=65536, description="size of the output")
    width: int = Field(128, ge=1, le=65536, description="size of the hidden layer")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        """The declared outputs, found without torch: shapes are checked before anything is built."""
        return {"pooled": inputs[0].with_(modality="vector", size=(self.dim,), dtype="float32")}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        """The module; its `forward` gets the inputs of `of` in order, here [N, D], and gives `pooled`."""
        from torch import nn

        return nn.Sequential(nn.Linear(inputs[0].size[0] or 1, self.width), nn.ReLU(), nn.Linear(self.width, self.dim))
