"""Components of open_clip: the towers of its models, their image transforms and tokenizers."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/open_clip": "mmflow_open_clip.encoder:OpenClipEncoder",
        "transform/open_clip_image": "mmflow_open_clip.image:OpenClipImage",
        "tokenizer/open_clip_tokenizer": "mmflow_open_clip.tokenizer:OpenClipTokenizer",
    }
