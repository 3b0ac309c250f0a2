"""First-party components: encoders, heads, fusions; tokenizers, and the preprocessing of other libraries' models."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/vit": "mmflow_encoders.images:Vit",
        "encoder/resnet": "mmflow_encoders.images:Resnet",
        "encoder/convnet4": "mmflow_encoders.images:Convnet4",
        "encoder/convnet1d": "mmflow_encoders.series:Convnet1d",
        "encoder/text_transformer": "mmflow_encoders.text:TextTransformer",
        "encoder/caption_decoder": "mmflow_encoders.text:CaptionDecoder",
        "encoder/linear": "mmflow_encoders.heads:Linear",
        "encoder/mlp": "mmflow_encoders.heads:Mlp",
        "encoder/l2norm": "mmflow_encoders.heads:L2Norm",
        "encoder/attention_pool": "mmflow_encoders.fusion:AttentionPool",
        "encoder/cross_attention": "mmflow_encoders.fusion:CrossAttention",
        "encoder/concat": "mmflow_encoders.fusion:Concat",
        "encoder/members": "mmflow_encoders.fusion:Members",
        "encoder/stack": "mmflow_encoders.fusion:Stack",
        "encoder/scores": "mmflow_encoders.fusion:Scores",
        "transform/hf_image": "mmflow_encoders.preprocessing:HfImage",
        "transform/hf_audio": "mmflow_encoders.preprocessing:HfAudio",
        "transform/timm_image": "mmflow_encoders.preprocessing:TimmImage",
        "transform/open_clip_image": "mmflow_encoders.preprocessing:OpenClipImage",
        "tokenizer/byte": "mmflow_encoders.tokenizers:Byte",
        "tokenizer/word": "mmflow_encoders.tokenizers:Word",
        "tokenizer/bpe": "mmflow_encoders.tokenizers:Bpe",
        "tokenizer/tokenizer_file": "mmflow_encoders.pretrained_tokenizers:TokenizerFile",
        "tokenizer/hf_tokenizer": "mmflow_encoders.pretrained_tokenizers:HfTokenizer",
        "tokenizer/open_clip_tokenizer": "mmflow_encoders.pretrained_tokenizers:OpenClipTokenizer",
    }
