"""The vision transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import TensorType
from mmflow_encoders.declared import check_heads, layer_names, tapped

if TYPE_CHECKING:
    from torch import nn

from mmflow_encoders.images.base import ImageEncoder


class Vit(ImageEncoder, name="vit"):
    """Vision transformer with pre-norm blocks and learned positions (Dosovitskiy et al., 2021).

    Input: image. Outputs: `pooled` [N, width], the class token or the mean of the patches; `tokens` [N, L, width] and
    `grid` [N, size/patch, size/patch, width], the patches after the final norm; taps `layers.1` to `layers.<depth>`,
    the patch tokens after each block.
    """

    example: ClassVar[str] = "{use: vit, of: image, width: 128, depth: 4, head: {use: linear, dim: 128}}"

    patch: int = Field(8, ge=1, description="side of a patch in pixels; must divide size")
    width: int = Field(256, ge=1, description="of tokens and of the pooled vector")
    depth: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide width")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over the width of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")
    pool: Literal["cls", "mean"] = Field("mean", description="a class token, or the mean of the patches")

    @model_validator(mode="after")
    def _divisible(self) -> Vit:
        check_heads(self.width, self.heads)
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image, side = inputs[0], self.size // self.patch
        vector = TensorType("vector", image.axes, (self.width,), groups=image.groups)
        tokens = vector.with_(modality="tokens", size=(side * side, self.width))
        grid = vector.with_(modality="grid", size=(side, side, self.width))
        return {"pooled": vector, "tokens": tokens, "grid": grid, **tapped(self.taps(), tokens)}

    def taps(self) -> tuple[str, ...]:
        return layer_names(self.depth)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.image_transformer import ImageTransformer

        return ImageTransformer(
            size=self.size,
            patch=self.patch,
            channels=self.channels,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
            mean=self.mean,
            std=self.std,
        )
