"""Convolutions along time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mmflow.plugin import RawField, Refs, TensorType, TokenSequence
from mmflow_encoders.declared import Dropping, Width, layer_names, tapped, tokens_like, vector_like
from mmflow_encoders.series.channels import channels_of

if TYPE_CHECKING:
    from torch import nn


class SeriesConv(Dropping, name="series_conv"):
    """Convolutions along time, each with layer norm and GELU, that may shorten a series and widen their reach.

    Input: a series [T] or [T, C] of any length, such as the view `log_mel` of a sound, or tokens, such as the frames
    of a video that `members` puts in order. Outputs: `tokens` [N, L, width] with their mask, L = T / stride^depth
    rounded up; `pooled` [N, width], their mean or maximum. Taps: `layers.1` to `layers.<depth>`, the tokens after each
    layer. Padding changes nothing, and no row depends on another.

    With `dilation` d, layer i looks at steps that are d^(i - 1) apart (WaveNet; van den Oord et al., 2016); with
    `residual` each layer is added to its input (temporal convolutional networks; Bai et al., 2018).
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("series", "tokens"),)
    example: ClassVar[str] = "{use: series_conv, of: mel, width: 128, depth: 4, head: {use: linear, dim: 128}}"

    of: Refs[TokenSequence | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    width: Width = Field(128, description="channels of each layer")
    depth: int = Field(4, ge=1, le=16, description="number of layers")
    kernel: int = Field(5, ge=1, le=1023, description="steps that a layer sees at once, an odd number")
    stride: int = Field(2, ge=1, le=1024, description="factor by which each layer shortens the series")
    dilation: int = Field(1, ge=1, le=16, description="factor by which each layer sees steps further apart")
    residual: bool = Field(False, description="add each layer to its input, from the second on; needs stride: 1")
    pool: Literal["mean", "max"] = Field("mean", description="of the tokens")
    normalize: bool = Field(True, description="bring each series, all channels together, to mean 0 and deviation 1")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is even and has no middle")
        return kernel

    @model_validator(mode="after")
    def _fitting(self) -> SeriesConv:
        if self.residual and self.stride > 1:
            raise ValueError(f"residual: true needs stride: 1, and stride is {self.stride}")
        if (reach := self.dilation ** (self.depth - 1) * (self.kernel - 1)) > 2**31:
            raise ValueError(f"the last layer would look {reach} steps away")
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        series = inputs[0]
        length = series.size[0] if series.size else None
        for _ in range(self.depth):
            length = None if length is None else -(-length // self.stride)
        tokens = tokens_like(series, length, self.width)
        # Lengths differ from layer to layer.
        taps = tapped(self.taps(), tokens.with_(size=(None, self.width)))
        return {"pooled": vector_like(series, self.width), "tokens": tokens, **taps}

    def taps(self) -> tuple[str, ...]:
        return layer_names(self.depth)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.series_convolutions import SeriesConvolutions

        return SeriesConvolutions(
            channels=channels_of(self.use, inputs[0]),
            width=self.width,
            depth=self.depth,
            kernel=self.kernel,
            stride=self.stride,
            pool=self.pool,
            normalize=self.normalize,
            dilation=self.dilation,
            residual=self.residual,
            dropout=self.dropout,
        )
