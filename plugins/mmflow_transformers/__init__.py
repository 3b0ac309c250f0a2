"""Components of the transformers and tokenizers libraries: models, image processors, feature extractors, tokenizers."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/transformers": "mmflow_transformers.encoder:TransformersEncoder",
        "encoder/transformers_video": "mmflow_transformers.encoder:TransformersVideo",
        "encoder/transformers_message": "mmflow_transformers.message_encoder:TransformersMessage",
        "score/transformers_pairs": "mmflow_transformers.pair_score:TransformersPairs",
        "modality/message": "mmflow_transformers.message:Message",
        "transform/message": "mmflow_transformers.message:WriteMessage",
        "transform/hf_image": "mmflow_transformers.image:HfImage",
        "transform/hf_audio": "mmflow_transformers.audio:HfAudio",
        "tokenizer/hf_tokenizer": "mmflow_transformers.tokenizer:HfTokenizer",
        "tokenizer/tokenizer_file": "mmflow_transformers.tokenizer_file:TokenizerFile",
    }
