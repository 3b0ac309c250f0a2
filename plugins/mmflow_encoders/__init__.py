"""Encoders, heads, fusions and decoders of our own, and tokenizers."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/vit": "mmflow_encoders.images.vit:Vit",
        "encoder/resnet": "mmflow_encoders.images.resnet:Resnet",
        "encoder/convnet4": "mmflow_encoders.images.convnet4:Convnet4",
        "encoder/series_conv": "mmflow_encoders.series.series_conv:SeriesConv",
        "encoder/audio_transformer": "mmflow_encoders.series.audio_transformer:AudioTransformer",
        "encoder/convnet1d": "mmflow_encoders.series.series_conv:Convnet1d",
        "encoder/text_transformer": "mmflow_encoders.texts.text_transformer:TextTransformer",
        "encoder/caption_decoder": "mmflow_encoders.decoders.caption_decoder:CaptionDecoder",
        "encoder/linear": "mmflow_encoders.heads.linear:Linear",
        "encoder/mlp": "mmflow_encoders.heads.mlp:Mlp",
        "encoder/l2norm": "mmflow_encoders.heads.l2norm:L2Norm",
        "encoder/attention_pool": "mmflow_encoders.fusion.attention_pool:AttentionPool",
        "encoder/cross_attention": "mmflow_encoders.fusion.cross_attention:CrossAttention",
        "encoder/concat": "mmflow_encoders.fusion.concat:Concat",
        "encoder/members": "mmflow_encoders.fusion.members:Members",
        "encoder/stack": "mmflow_encoders.fusion.stack:Stack",
        "encoder/scores": "mmflow_encoders.fusion.scores:Scores",
        "tokenizer/byte": "mmflow_encoders.tokenizers.byte:Byte",
        "tokenizer/word": "mmflow_encoders.tokenizers.word:Word",
        "tokenizer/bpe": "mmflow_encoders.tokenizers.bpe:Bpe",
    }
