"""Encoders, heads, fusions and decoders of our own, and tokenizers."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/vit": "mmflow_encoders.images.vit:Vit",
        "encoder/resnet": "mmflow_encoders.images.resnet:Resnet",
        "encoder/masked_autoencoder": "mmflow_encoders.images.masked_autoencoder:MaskedAutoencoder",
        "encoder/video_transformer": "mmflow_encoders.images.video_transformer:VideoTransformer",
        "encoder/convnet4": "mmflow_encoders.images.convnet4:Convnet4",
        "encoder/series_conv": "mmflow_encoders.series.series_conv:SeriesConv",
        "encoder/audio_transformer": "mmflow_encoders.series.audio_transformer:AudioTransformer",
        "encoder/convnet1d": "encoder/series_conv",
        "encoder/text_transformer": "mmflow_encoders.texts.text_transformer:TextTransformer",
        "encoder/caption_decoder": "mmflow_encoders.decoders.caption_decoder:CaptionDecoder",
        "encoder/reconstruction_decoder": "mmflow_encoders.decoders.reconstruction_decoder:ReconstructionDecoder",
        "encoder/linear": "mmflow_encoders.heads.linear:Linear",
        "encoder/mlp": "mmflow_encoders.heads.mlp:Mlp",
        "encoder/sparse": "mmflow_encoders.heads.sparse:Sparse",
        "encoder/l2norm": "mmflow_encoders.heads.l2norm:L2Norm",
        "encoder/attention_pool": "mmflow_encoders.fusion.attention_pool:AttentionPool",
        "encoder/cross_attention": "mmflow_encoders.fusion.cross_attention:CrossAttention",
        "encoder/concat": "mmflow_encoders.fusion.concat:Concat",
        "encoder/members": "mmflow_encoders.fusion.members:Members",
        "encoder/stack": "mmflow_encoders.fusion.stack:Stack",
        "encoder/gated": "mmflow_encoders.fusion.gated:Gated",
        "encoder/product": "mmflow_encoders.fusion.product:Product",
        "encoder/scores": "mmflow_encoders.fusion.scores:Scores",
        "encoder/hard_pairs": "mmflow_encoders.miners.hard_pairs:HardPairs",
        "encoder/set_transformer": "mmflow_encoders.sets.set_transformer:SetTransformer",
        "encoder/slots": "mmflow_encoders.sets.slots:Slots",
        "encoder/graph": "mmflow_encoders.graphs.graph:Graph",
        "encoder/lookup": "mmflow_encoders.tables.lookup:Lookup",
        "encoder/prototype_vectors": "mmflow_encoders.tables.prototype_vectors:PrototypeVectors",
        "tokenizer/byte": "mmflow_encoders.tokenizers.byte:Byte",
        "tokenizer/word": "mmflow_encoders.tokenizers.word:Word",
        "tokenizer/bpe": "mmflow_encoders.tokenizers.bpe:Bpe",
    }
