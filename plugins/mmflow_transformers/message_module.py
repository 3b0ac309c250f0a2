"""The forward pass of a vision-language model of transformers over messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from mmflow_pretrained.attention import step_by_step
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens
from mmflow_transformers.module import called
from mmflow_transformers.pooling import pooled

_IMAGES_BY_ROW = frozenset({"idefics2", "idefics3", "smolvlm"})
"""Model types that take as many images for each row of a batch, blank ones among them."""


def encoding(model: nn.Module, pool: str, padding: int, *, language: bool) -> nn.Module:
    """The model itself, its parameters under their own names, with the outputs and taps of an encoder."""
    model.reader = Reader(pool, padding, language)  # type: ignore[assignment]
    model.forward = MethodType(_forward, model)
    return model


def _forward(model: Any, messages: list[Any], taps: Sequence[str] = ()) -> dict[str, Any]:
    """Prepared messages -> `pooled` [N, D], `tokens` and `ids` with their mask, and `taps`."""
    return model.reader.read(model, messages, taps)


@dataclass(frozen=True)
class Reader:
    """How a model is given messages, and its output is read."""

    pool: str
    padding: int
    language: bool

    def read(self, model: Any, messages: list[Any], taps: Sequence[str]) -> dict[str, Any]:
        """See `_forward`."""
        weight = model.get_input_embeddings().weight
        blank = {"input_ids": torch.full((1,), self.padding).numpy()}
        rows = [{n: _tensor(each, weight) for n, each in (row or blank).items()} for row in messages]
        given, mask = batch(rows, self.padding, by_row=model.config.model_type in _IMAGES_BY_ROW)
        options: dict[str, Any] = {**given, "attention_mask": mask.long(), "use_cache": False, "return_dict": True}
        hidden, maps = (any(name.startswith(kind) for name in taps) for kind in ("layers.", "attention."))
        options |= {"output_hidden_states": True} if hidden else {}
        options |= {"output_attentions": True} if maps else {}
        with step_by_step(model) if maps else nullcontext():
            found, logits = called(model, options, language=self.language, logits="logits" in taps)
        states = found.last_hidden_state
        outputs: dict[str, Any] = {
            "pooled": pooled(states, mask, self.pool),
            "tokens": Tokens(states, mask),
            "ids": Tokens(given["input_ids"], mask),
        }
        for name in taps:
            kind, _, number = name.partition(".")
            if kind == "logits" and logits is not None:
                outputs[name] = Tokens(logits, mask)
            elif kind == "layers":
                outputs[name] = Tokens(found.hidden_states[int(number)], mask)
            else:
                outputs[name] = found.attentions[int(number) - 1]
        return outputs


def batch(
    rows: Sequence[Mapping[str, Tensor]], padding: int, *, by_row: bool
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """The rows joined: what has one number an id padded to the longest, images one after the other; and the mask."""
    lengths = [len(row["input_ids"]) for row in rows]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    joined: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        there = [row[name] for row in rows if name in row]
        if there[0].ndim == 1:
            fill = padding if name == "input_ids" else 0
            like = there[0]
            whole = like.new_full((len(rows), max(lengths)), fill)
            for place, row in enumerate(rows):
                if name in row:
                    whole[place, : lengths[place]] = row[name]
            joined[name] = whole
        elif by_row:
            joined[name] = torch.cat(_alike([row.get(name, torch.zeros_like(there[0][:, :1])) for row in rows]))
        else:
            joined[name] = torch.cat(_alike(there))
    return joined, mask.to(rows[0]["input_ids"].device)


def _alike(values: Sequence[Tensor]) -> list[Tensor]:
    """Values whose sizes but the first are brought to the largest by zeros behind."""
    sizes = [max(value.shape[place] for value in values) for place in range(1, values[0].ndim)]
    return [
        F.pad(value, [n for size, own in zip(sizes[::-1], value.shape[:0:-1], strict=True) for n in (0, size - own)])
        for value in values
    ]


def _tensor(array: Any, weight: Tensor) -> Tensor:
    value = torch.from_numpy(array)
    return value.to(weight.device, weight.dtype if value.is_floating_point() else None)
