"""Loading from transformers: by folder or hub name, never with code of the model's own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mmflow_pretrained.folders import folder_of, is_local
from mmflow_pretrained.reading import reading

KINDS = {
    "AutoImageProcessor": "image processor",
    "AutoFeatureExtractor": "feature extractor",
    "AutoTokenizer": "tokenizer",
    "AutoProcessor": "processor",
}


@lru_cache(maxsize=16)
def load(kind: str, hub: str, revision: str | None) -> Any:
    """The object that the transformers class `kind` makes of a folder or a hub name; raises `ComponentError`."""
    where = str(folder_of(hub)) if is_local(hub) else hub
    with reading("transformers", KINDS[kind], hub):
        import transformers

        return getattr(transformers, kind).from_pretrained(where, revision=revision, trust_remote_code=False)
