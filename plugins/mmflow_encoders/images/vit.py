"""The vision transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import TensorType
from mmflow_encoders.declared import Share, Tower
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import nn


class Vit(ImageEncoder, Tower, name="vit"):
    """Vision transformer with pre-norm blocks and learned positions (Dosovitskiy et al., 2021).

    Input: image. Outputs: `pooled` [N, width]; `tokens` [N, L, width] and `grid` [N, H/patch, W/patch, width], the
    patches after the final norm. Taps: `layers.1` to `layers.<depth>`, the patches after each block; `attention.1` to
    `attention.<depth>`, the maps [N, heads, L', L'] over class token, registers and patches in this order;
    `attention.pool` [N, heads, 1, L], the weights of `pool: attention`.

    `pool`: the class token, the mean of the patches, or `attention`, a learned query with an MLP (Zhai et al., 2022).
    `registers` are further learned tokens that no output contains (Darcet et al., 2024). With `patch_dropout` a
    training pass sees a random subset of the patches (Li et al., FLIP, 2023); the others are padding in `tokens` and
    zero in `grid`. Positions are learned for images of `positions` pixels and interpolated (bicubic, antialiased) for
    images of another size, which `fit: keep` admits.
    """

    example: ClassVar[str] = "{use: vit, of: image, width: 128, depth: 4, head: {use: linear, dim: 128}}"

    patch: int = Field(8, ge=1, le=4096, description="side of a patch in pixels; must divide size")
    pool: Literal["cls", "mean", "attention"] = Field("mean", description="class token, mean, or learned query")
    registers: int = Field(0, ge=0, le=1024, description="number of further learned tokens")
    patch_dropout: Share = Field(0.0, description="share of the patches that a training pass leaves out")
    positions: int | None = Field(
        None, ge=1, le=4096, description="size of the images that positions are learned for; unset: size"
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Vit:
        for name, side in (("size", self.size), ("positions", self.positions or self.size)):
            if side % self.patch:
                raise ValueError(f"{name} {side} is no multiple of patch {self.patch}")
        return self

    def draws(self) -> bool:
        return self.dropout > 0 or self.patch_dropout > 0

    def multiple(self) -> int:
        return self.patch

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = inputs[0]
        high, wide = (None if side is None else side // self.patch for side in self.sides(image))
        length = None if high is None or wide is None else high * wide
        extra = None if self.patch_dropout else (self.pool == "cls") + self.registers
        outputs = self.tower(image, length, self.pool, extra)
        return {**outputs, "grid": outputs["pooled"].with_(modality="grid", size=(high, wide, self.width))}

    def taps(self) -> tuple[str, ...]:
        return self.tower_taps(self.pool)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.image_transformer import ImageTransformer

        return ImageTransformer(
            size=self.positions or self.size,
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
            registers=self.registers,
            patch_dropout=self.patch_dropout,
        )
