"""Loading from transformers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    pass

from mmflow_pretrained.folders import first_line, folder_of, is_local


@lru_cache(maxsize=16)
def load(kind: str, hub: str, revision: str | None) -> Any:
    import transformers

    where = str(folder_of(hub)) if is_local(hub) else hub
    try:
        return getattr(transformers, kind).from_pretrained(where, revision=revision)
    except (OSError, ValueError) as error:
        kinds = {"AutoImageProcessor": "image processor", "AutoFeatureExtractor": "feature extractor"}
        raise ComponentError(f"transformers finds no {kinds[kind]} in {hub}: {first_line(error)}") from error
