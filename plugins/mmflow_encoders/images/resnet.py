"""The residual network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import TensorType
from mmflow_encoders.declared import layer_names
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import nn


class Resnet(ImageEncoder, name="resnet"):
    """Residual network (He et al., 2016), torchvision's layers with fresh weights.

    Input: image. Outputs: `pooled` [N, C], the mean of the grid; `grid` [N, H, W, C] with C = 512 (depth 18, 34) or
    2048 (50, 101, 152). Taps: `layers.1` to `layers.4`, the grids of the four stages. `stem: small` is a 3 x 3 first
    layer without pooling for small images (as in the paper's CIFAR networks). With `norm: batch` the running statistics
    and gradients depend on the micro-batch; `norm: group` (Wu and He, 2018) makes every row independent.
    """

    example: ClassVar[str] = "{use: resnet, of: image, depth: 18, stem: small, head: {use: linear, dim: 128}}"

    depth: Literal[18, 34, 50, 101, 152] = Field(18, description="number of layers with weights, as published")
    stem: Literal["large", "small"] = Field("large", description="7 x 7 and pooling, or 3 x 3 for small images")
    norm: Literal["batch", "group"] = Field("batch", description="group: no row depends on another")

    def batch_statistics(self) -> bool:
        return self.norm == "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = inputs[0]
        expansion = 1 if self.depth < 50 else 4
        # The large stem halves the image twice, each later stage once, all rounding up.
        high, wide = (side if self.stem == "small" else _halved(_halved(side)) for side in self.sides(image))
        grids = {}
        for stage, width in enumerate((64, 128, 256, 512), 1):
            high, wide = (high, wide) if stage == 1 else (_halved(high), _halved(wide))
            size = (high, wide, width * expansion)
            grids[f"layers.{stage}"] = TensorType("grid", image.axes, size, groups=image.groups)
        last = grids["layers.4"]
        return {"pooled": last.with_(modality="vector", size=last.size[-1:]), "grid": last, **grids}

    def taps(self) -> tuple[str, ...]:
        return layer_names(4)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.residual_network import ResidualNetwork

        return ResidualNetwork(
            depth=self.depth, small=self.stem == "small", norm=self.norm, channels=self.channels,
            mean=self.mean, std=self.std,
        )  # fmt: skip


def _halved(side: int | None) -> int | None:
    return None if side is None else (side + 1) // 2
