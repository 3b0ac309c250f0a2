"""The masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import RawField, Ref, TensorType
from mmflow_encoders.declared import HEADS, Depth, Heads, Share, Tower, Width, check_heads
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import nn


class MaskedAutoencoder(ImageEncoder, Tower, name="masked_autoencoder"):
    """Vision transformer over the visible patches of an image, and a decoder that predicts the hidden ones (MAE; He
    et al., 2022).

    Input: image; `mask`, a field bool [H/patch, W/patch] that is true where a patch is hidden, as the transform
    `patch_mask` adds it. Without `mask`, a training pass hides a share `ratio` of the patches at random, and evaluation
    none. Outputs: `pooled` [N, width], the class token or the mean of the visible patches; `tokens` [N, L, width],
    whose mask names the visible patches. Taps: `reconstruction` and `target` [N, L, patch * patch * channels], the
    predicted and the true patches, channels last, whose masks name the hidden patches, for `{use: mse, of:
    [image.reconstruction, image.target]}`; `layers.1` to `layers.<depth>`; `attention.1` to `attention.<depth>`, the
    maps over class token and visible patches. Hidden patches cost nothing in the tower.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"mask": ("mask",)}
    example: ClassVar[str] = "{use: masked_autoencoder, of: masked.image, mask: masked.mask, width: 128}"

    patch: int = Field(8, ge=1, le=4096, description="side of a patch in pixels; must divide size")
    pool: Literal["cls", "mean"] = Field("mean", description="a class token, or the mean of the visible patches")
    mask: Ref[RawField] | None = Field(None, description="the field that says which patches are hidden")
    ratio: Share = Field(0.75, description="share of hidden patches where `mask` is unset")
    normalize: bool = Field(True, description="bring each patch of the target to mean 0 and variance 1")
    decoder_width: Width = Field(128, description="of the decoder")
    decoder_depth: Depth = Field(2, description="number of blocks of the decoder")
    decoder_heads: Heads = Field(4, description=HEADS + " of the decoder")

    @model_validator(mode="after")
    def _divisible(self) -> MaskedAutoencoder:
        check_heads(self.decoder_width, self.decoder_heads)
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        if self.fit == "keep":
            raise ValueError("the decoder needs images of one size; fit: keep has none")
        return self

    def draws(self) -> bool:
        return self.dropout > 0 or (self.mask is None and self.ratio > 0)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = inputs[0]
        outputs = self.tower(image, (self.size // self.patch) ** 2, self.pool, None)
        patches = outputs["tokens"].with_(size=(outputs["tokens"].size[0], self.patch**2 * self.channels))
        return {**outputs, "reconstruction": patches, "target": patches}

    def taps(self) -> tuple[str, ...]:
        return ("reconstruction", "target", *self.tower_taps(self.pool))

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.reconstruction import MaskedAutoencoder as Module
        from mmflow_encoders.modules.reconstruction import PatchDecoder

        decoder = PatchDecoder(
            channels=self.width,
            places=(self.size // self.patch) ** 2,
            width=self.decoder_width,
            depth=self.decoder_depth,
            heads=self.decoder_heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            values=self.patch**2 * self.channels,
        )
        return Module(
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
            ratio=self.ratio,
            normalize=self.normalize,
            decoder=decoder,
        )
