"""The few-shot network of four blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import TensorType
from mmflow_encoders.declared import Width, vector_like
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import nn


class Convnet4(ImageEncoder, name="convnet4"):
    """Four blocks of 3 x 3 convolution, norm, ReLU and 2 x 2 max pooling: the few-shot network (Snell et al., 2017).

    Input: image. Outputs: `grid` [N, size/16, size/16, width] (rounded down); `pooled` [N, D], the grid flattened, as
    in the paper, or its mean over places with `pool: mean`.
    """

    example: ClassVar[str] = "{use: convnet4, of: image, size: 28, channels: 1}"

    width: Width = Field(64, description="channels of each block")
    norm: Literal["batch", "group"] = Field("batch", description="group: no row depends on another")
    pool: Literal["flat", "mean"] = Field("flat", description="the grid as one vector, or its mean over places")

    @model_validator(mode="after")
    def _large_enough(self) -> Convnet4:
        if self.size < 16:
            raise ValueError(f"size {self.size} is below 16, and four poolings would leave nothing")
        if self.fit == "keep" and self.pool == "flat":
            raise ValueError("pool: flat needs images of one size; with fit: keep write pool: mean")
        return self

    def batch_statistics(self) -> bool:
        return self.norm == "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image, side = inputs[0], self.size // 16
        high, wide = (None if s is None else s // 16 for s in self.sides(image))
        grid = TensorType("grid", image.axes, (high, wide, self.width), groups=image.groups)
        return {"pooled": vector_like(image, self.width * (side * side if self.pool == "flat" else 1)), "grid": grid}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.four_blocks import FourBlocks

        return FourBlocks(
            width=self.width, norm=self.norm, pool=self.pool, channels=self.channels, mean=self.mean, std=self.std
        )
