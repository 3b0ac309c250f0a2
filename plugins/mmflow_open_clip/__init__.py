"""Components of open_clip: the image transforms and tokenizers of its models."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "transform/open_clip_image": "mmflow_open_clip.image:OpenClipImage",
        "tokenizer/open_clip_tokenizer": "mmflow_open_clip.tokenizer:OpenClipTokenizer",
    }
