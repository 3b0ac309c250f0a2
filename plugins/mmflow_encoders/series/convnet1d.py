"""Convolutions along time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from mmflow.plugin import ComponentError, Encoder, RawField, Refs, TensorType, TokenSequence
from mmflow_encoders.declared import layer_names, tapped

if TYPE_CHECKING:
    from torch import nn


class Convnet1d(Encoder, name="convnet1d"):
    """Convolutions along time, each with layer norm and GELU, that shorten a series step by step.

    Input: a series [T] or [T, C] of any length, such as the view `log_mel` of a sound, or tokens, such as the frames
    of a video that `members` puts in order. Outputs: `tokens` [N, L, width] with their mask, L = T / stride^depth
    rounded up; `pooled` [N, width], their mean or maximum; taps `layers.1` to `layers.<depth>`. Padding changes
    nothing, and no row depends on another.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("series", "tokens"),)
    example: ClassVar[str] = "{use: convnet1d, of: mel, width: 128, depth: 4, head: {use: linear, dim: 128}}"

    of: Refs[TokenSequence | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    width: int = Field(128, ge=1, description="channels of each layer")
    depth: int = Field(4, ge=1, le=16, description="number of layers")
    kernel: int = Field(5, ge=1, description="steps that a layer sees at once, an odd number")
    stride: int = Field(2, ge=1, description="factor by which each layer shortens the series")
    pool: Literal["mean", "max"] = Field("mean", description="of the tokens")
    normalize: bool = Field(True, description="bring each series, all channels together, to mean 0 and deviation 1")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is even and has no middle")
        return kernel

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        series = inputs[0]
        length = series.size[0] if series.size else None
        for _ in range(self.depth):
            length = None if length is None else -(-length // self.stride)
        vector = TensorType("vector", series.axes, (self.width,), groups=series.groups)
        tokens = vector.with_(modality="tokens", size=(length, self.width))
        # Lengths differ from layer to layer.
        taps = tapped(self.taps(), tokens.with_(size=(None, self.width)))
        return {"pooled": vector, "tokens": tokens, **taps}

    def taps(self) -> tuple[str, ...]:
        return layer_names(self.depth)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.time_convolutions import ConvolutionsInTime

        size = inputs[0].size
        channels = size[1] if len(size) == 2 else 1
        if channels is None or len(size) > 2:
            raise ComponentError(f"{self.use} needs a series [T, C] with C known", found=f"size {list(size)}")
        return ConvolutionsInTime(
            channels=channels, width=self.width, depth=self.depth, kernel=self.kernel, stride=self.stride,
            pool=self.pool, normalize=self.normalize,
        )  # fmt: skip
