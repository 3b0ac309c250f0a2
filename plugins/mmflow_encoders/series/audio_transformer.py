"""The transformer of spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, RawField, Refs, TensorType, TokenSequence
from mmflow_encoders.declared import Tower
from mmflow_encoders.series.channels import channels_of

if TYPE_CHECKING:
    from torch import nn


class AudioTransformer(Tower, name="audio_transformer"):
    """Transformer over patches of a spectrogram (AST; Gong et al., 2021), or over pieces of any series.

    Input: a series [T, C], such as the view `log_mel` of a sound (C bands), or [T]. Outputs: `pooled` [N, width];
    `tokens` [N, L, width] with their mask, the patches in the order of time, those of one time by rising band,
    L = T / patch (rounded up) * C / bands. Taps: `layers.1` to `layers.<depth>`, the patches after each block;
    `attention.1` to `attention.<depth>`, the maps [N, heads, L', L'] over class token and patches; `attention.pool`,
    the weights of `pool: attention`. Positions are learned apart in time and in frequency. Padding changes nothing.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("series", "tokens"),)
    example: ClassVar[str] = "{use: audio_transformer, of: mel, width: 128, depth: 4, patch: 16, bands: 16}"

    of: Refs[TokenSequence | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    patch: int = Field(16, ge=1, le=65_536, description="steps in time that a patch covers")
    bands: int | None = Field(16, ge=1, le=65_536, description="bands that a patch covers; null: all")
    length: int = Field(1024, ge=1, le=10_000_000, description="largest number of steps of a series")
    pool: Literal["cls", "mean", "attention"] = Field("mean", description="class token, mean, or learned query")
    normalize: bool = Field(True, description="bring each series, all bands together, to mean 0 and deviation 1")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        series = inputs[0]
        steps = series.size[0] if series.size else None
        channels = (series.size[1] if len(series.size) == 2 else 1) if series.size else None
        length = None
        if steps is not None and channels is not None:
            length = -(-steps // self.patch) * (channels // (self.bands or channels))
        return self.tower(series, length, self.pool, int(self.pool == "cls"))

    def taps(self) -> tuple[str, ...]:
        return self.tower_taps(self.pool)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.audio_transformer import AudioTransformer as Module

        channels = channels_of(self.use, inputs[0])
        bands = self.bands or channels
        if channels % bands:
            raise ComponentError(
                f"{channels} bands are no multiple of `bands: {bands}`",
                hint="write `bands: null` for patches that cover all bands",
            )
        return Module(
            patch=self.patch,
            bands=bands,
            channels=channels,
            length=self.length,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
            normalize=self.normalize,
        )
