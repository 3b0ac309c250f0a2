"""Encoders of images, sounds, videos and texts, most of them the library's own under the names of the sketches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow_encoders.heads.linear import Linear
from mmflow_encoders.images.convnet4 import Convnet4
from mmflow_encoders.images.video_transformer import VideoTransformer
from mmflow_encoders.series.audio_transformer import AudioTransformer
from mmflow_encoders.sets.set_transformer import SetTransformer

from mmflow.plugin import Encoder, Refs, TensorType, TokenSequence, Value, default

if TYPE_CHECKING:
    from torch import nn


class RoiGrid(Convnet4, name="roi_grid"):
    """A convolutional network in place of features of regions."""


class CodecAudio(AudioTransformer, name="codec_audio"):
    """A transformer over pieces of a sound in place of a neural codec."""


class FrameVideo(VideoTransformer, name="frame_video"):
    """A vision transformer for each frame."""


class ContrastiveHead(Linear, name="contrastive_head"):
    """A projection."""


class ResampleConcat(Encoder, name="resample_concat"):
    """Two sequences, the second brought to the length of the first, joined and projected to the width of the first."""

    of: Refs[TokenSequence]  # pyright: ignore[reportIncompatibleVariableOverride]

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", size=inputs[0].size[-1:]), "tokens": inputs[0]}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Resampled

        return Resampled(int(inputs[0].size[-1] or 1), int(inputs[1].size[-1] or 1))


class ConcatJointHead(Encoder, name="concat_joint_head"):
    """A linear map of joined vectors."""

    dim: int

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(size=(self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Joined

        return Joined(sum(int(given.size[-1] or 1) for given in inputs), self.dim)


class OpenClipVideo(VideoTransformer, name="open_clip_video"):
    """A video tower whose blocks emit their alignment; `frame_cls` are the vectors of the frames."""

    shift: Value = default(1.0)

    def emits(self) -> tuple[str, ...]:
        return ("align",)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        found = dict(super().outputs(*inputs))
        return {**found, "frame_cls": found["tokens"]}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Aligned

        return Aligned(super().build(*inputs, state=state))


class FrameTransformer(SetTransformer, name="frame_transformer"):
    """Attention over the frames of a video."""


class MinusCls(Encoder, name="minus_cls"):
    """Tokens without what they have in common: their mean stands for a class token."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, tokens: Any) -> Any:
        return tokens - tokens.mean(-2, keepdim=True)
