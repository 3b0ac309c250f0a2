"""Components of the transformers and tokenizers libraries: image processors, feature extractors, tokenizers."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "transform/hf_image": "mmflow_transformers.image:HfImage",
        "transform/hf_audio": "mmflow_transformers.audio:HfAudio",
        "tokenizer/hf_tokenizer": "mmflow_transformers.tokenizer:HfTokenizer",
        "tokenizer/tokenizer_file": "mmflow_transformers.tokenizer_file:TokenizerFile",
    }
