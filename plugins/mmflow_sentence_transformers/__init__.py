"""Components of sentence-transformers: its text models."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/sentence_transformers": "mmflow_sentence_transformers.encoder:SentenceEncoder",
    }
