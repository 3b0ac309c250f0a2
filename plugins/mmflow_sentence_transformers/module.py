"""The forward pass of a model of sentence-transformers as an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from mmflow_pretrained.attention import step_by_step

from mmflow.plugin import Tokens

if TYPE_CHECKING:
    from torch import nn

    from mmflow_sentence_transformers.description import Description


@dataclass(frozen=True)
class Reader:
    """How a model is given its texts, and its output is read."""

    about: Description
    padding: int
    hidden: int
    """Tokens of a prompt, which a pooling may leave out."""


def encoding(model: nn.Module, about: Description, padding: int, hidden: int) -> nn.Module:
    """The model itself, its parameters under their own names, with the outputs and taps of an encoder."""
    model.reader = Reader(about, padding, hidden)  # type: ignore[assignment]
    model.forward = MethodType(_forward, model)
    return model


def _forward(model: Any, text: Tokens, taps: Sequence[str] = ()) -> dict[str, Any]:
    """Ids [N, L] with their mask -> `pooled` [N, D], `tokens` [N, L, D'], `ids`, and `taps`."""
    reader: Reader = model.reader
    ids = text.values.masked_fill(~text.mask, reader.padding)
    features: dict[str, Any] = {"input_ids": ids, "attention_mask": text.mask.long()}
    features |= {"prompt_length": reader.hidden} if reader.hidden else {}
    hidden, maps = (any(name.startswith(kind) for name in taps) for kind in ("layers.", "attention."))
    features |= {"output_hidden_states": True} if hidden else {}
    features |= {"output_attentions": True} if maps else {}
    with step_by_step(model) if maps else nullcontext(), _watched(model) if taps else nullcontext([]) as seen:
        found = type(model).forward(model, features)
    outputs: dict[str, Any] = {
        "pooled": found["sentence_embedding"],
        "tokens": Tokens(found["token_embeddings"], text.mask),
        "ids": Tokens(ids, text.mask),
    }
    for name in taps:
        kind, _, number = name.partition(".")
        if kind == "layers":
            outputs[name] = Tokens(seen[0].hidden_states[int(number)], text.mask)
        else:
            outputs[name] = seen[0].attentions[int(number) - 1]
    return outputs


@contextmanager
def _watched(model: Any) -> Iterator[list[Any]]:
    """Collect what the transformer inside gives; the library calls its `forward` past all hooks."""
    seen: list[Any] = []
    inner = next(module for module in model[0].children() if hasattr(module, "config"))
    forward = inner.forward

    def kept(*arguments: Any, **options: Any) -> Any:
        result = forward(*arguments, **options)
        seen.append(result)
        return result

    inner.forward = kept
    try:
        yield seen
    finally:
        del inner.forward
