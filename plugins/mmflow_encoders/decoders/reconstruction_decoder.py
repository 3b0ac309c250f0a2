"""The decoder of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import Grid, Pooled, RawField, Refs, TensorType, TokenSequence
from mmflow_encoders.declared import Blocks, Depth, Width, check_heads, tokens_like, width_of
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import nn


class ReconstructionDecoder(ImageEncoder, Blocks, name="reconstruction_decoder"):
    """Transformer that predicts the pixels of an image, patch by patch (the decoder of MAE; He et al., 2022).

    `of: [tokens]`, `[grid]` or `[vector]` of an encoder, one token for each patch of an image of `size` pixels; padded
    tokens are hidden patches, for which a learned token stands in; a vector stands at every place. Output: `tokens`
    [N, L, patch * patch * channels], the predicted patches, row by row, channels last. With the image as second input
    also `target` [N, L, patch * patch * channels], its patches, whose mask names those that were hidden (all where none
    was), for `{use: mse, of: [decoder.tokens, decoder.target]}`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens", "grid", "vector"), ("image", "video"))
    example: ClassVar[str] = "{use: reconstruction_decoder, of: [image.tokens, view], size: 64, patch: 8}"

    of: Refs[TokenSequence | Grid | Pooled | RawField] = Field(min_length=1, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    patch: int = Field(8, ge=1, le=4096, description="side of a patch in pixels; must divide size")
    width: Width = Field(128, description="of the decoder")
    depth: Depth = Field(2, description="number of blocks")
    normalize: bool = Field(True, description="bring each patch of the target to mean 0 and variance 1")

    @model_validator(mode="after")
    def _divisible(self) -> ReconstructionDecoder:
        check_heads(self.width, self.heads)
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        if self.fit == "keep":
            raise ValueError("the decoder needs images of one size; fit: keep has none")
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        tokens = tokens_like(inputs[0], (self.size // self.patch) ** 2, self.patch**2 * self.channels)
        return {"tokens": tokens, "target": tokens} if len(inputs) == 2 else {"tokens": tokens}

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        return super().preprocess(index, value, state) if index == 1 else value

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.reconstruction import PatchDecoder
        from mmflow_encoders.modules.reconstruction import ReconstructionDecoder as Module

        decoder = PatchDecoder(
            channels=width_of(self.use, inputs[0]),
            places=(self.size // self.patch) ** 2,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            values=self.patch**2 * self.channels,
        )
        return Module(decoder, patch=self.patch, mean=self.mean, std=self.std, normalize=self.normalize)
