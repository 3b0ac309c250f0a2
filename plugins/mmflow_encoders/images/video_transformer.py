"""The transformer of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoded, Encoding, RawField, Refs, TensorType
from mmflow_encoders.declared import Blocks, Depth, Width, check_heads, layer_names, map_like, map_names, tapped
from mmflow_encoders.images.base import ImageEncoder

if TYPE_CHECKING:
    from torch import Tensor, nn


class VideoTransformer(ImageEncoder, Blocks, name="video_transformer"):
    """A vision transformer for each frame, whose vectors are joined over time (X-CLIP; Ni et al., 2022).

    Input: video (the axis `frame`; missing frames are left out). Outputs: `pooled` [N, width]; `tokens`
    [N, F, width], the frames in their order with their mask. Taps: `layers.1` to `layers.<depth>`, the frame vectors
    after each block; `frames.1` and so on, the maps over frames of the joining: [N, heads, F, F] of each layer of a
    transformer, [N, heads, 1, F] of attention, [N, 1, 1, F] of gates.

    `aggregate`: the `mean` of the frames; `transformer`, blocks over frames with learned positions, added to their
    input, then the mean; `attention`, a learned query with an MLP, over frames with positions; `gated`, weights
    softmax_t w . (tanh(V h_t) * sigmoid(U h_t)) (Ilse et al., 2018). With `cross_frame` each block first sends one
    message token from every frame to all others, which the tokens of the frame attend to.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("video", "image"),)
    axes: ClassVar[tuple[str, ...]] = ("frame",)
    example: ClassVar[str] = "{use: video_transformer, of: video, width: 128, aggregate: transformer}"

    of: Refs[Encoded | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    patch: int = Field(8, ge=1, le=4096, description="side of a patch in pixels; must divide size")
    width: Width = Field(256, description="of tokens and of the pooled vector")
    depth: Depth = Field(4, description="number of blocks of the frame tower")
    pool: Literal["cls", "mean"] = Field("cls", description="vector of a frame: class token, or mean of its patches")
    aggregate: Literal["mean", "transformer", "attention", "gated"] = Field("mean", description="joining of frames")
    aggregate_depth: Depth = Field(1, description="number of blocks of aggregate: transformer")
    frames: int = Field(64, ge=1, le=65_536, description="largest number of frames, for which positions are learned")
    cross_frame: bool = Field(False, description="message tokens between frames in each block")

    @model_validator(mode="after")
    def _divisible(self) -> VideoTransformer:
        check_heads(self.width, self.heads)
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        return self

    def multiple(self) -> int:
        return self.patch

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        video = inputs[0]
        if "frame" not in video.axes[1:]:
            raise ComponentError(
                "video_transformer takes a video", found=f"{video.modality} with the axes {', '.join(video.axes)}",
                expected="the axis 'frame'", hint="vit encodes single images",
            )  # fmt: skip
        place = video.axes.index("frame")
        count = video.groups[place - 1] if video.groups else None
        axes = (*video.axes[:place], *video.axes[place + 1 :])
        vector = TensorType("vector", axes, (self.width,), groups=(*video.groups[: place - 1], *video.groups[place:]))
        tokens = vector.with_(modality="tokens", size=(count, self.width))
        heads, queries = (1 if self.aggregate == "gated" else self.heads), (count if self._blocks() else 1)
        maps = tapped(self._maps(), map_like(vector, heads, queries, count))
        return {"pooled": vector, "tokens": tokens, **tapped(layer_names(self.depth), tokens), **maps}

    def taps(self) -> tuple[str, ...]:
        return (*layer_names(self.depth), *self._maps())

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        present = inputs[0].present
        return None if present is None else present.any(dim=-1)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.video_transformer import VideoTransformer as Module

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
            aggregate=self.aggregate,
            layers=self.aggregate_depth,
            frames=self.frames,
            cross_frame=self.cross_frame,
        )

    def _blocks(self) -> bool:
        return self.aggregate == "transformer"

    def _maps(self) -> tuple[str, ...]:
        if self.aggregate == "mean":
            return ()
        return map_names(self.aggregate_depth if self._blocks() else 1, "frames")
