"""A sentence encoder as a folder of its library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow_pretrained.sentences import write_sentences

from mmflow.plugin import ComponentError, Exported

if TYPE_CHECKING:
    from mmflow_sentence_transformers.encoder import SentenceEncoder

_PROMPT = "mmflow"
"""The name of a prompt that a spec writes out."""


def export(encoder: SentenceEncoder, folder: Path, parts: Sequence[Exported]) -> str:
    """Write the modules with their trained weights, the head behind them, and the prompt as the default one."""
    if len(parts) > 1:
        raise ComponentError("a folder of sentence-transformers has one encoder", hint="name it: --of NAME")
    model: Any = parts[0].module
    about = encoder.description()
    prompts, default = dict(about.prompts), about.default_prompt
    if encoder.prompt is not None:
        default = encoder.prompt if encoder.prompt in prompts else _PROMPT
        prompts.setdefault(default, encoder.prompt)
    limit, before = min(encoder.length or about.length, about.length), model.max_seq_length
    model.max_seq_length = limit
    try:
        return write_sentences(folder, list(model), encoder, parts[0].head, prompts=prompts, default=default)
    finally:
        model.max_seq_length = before
