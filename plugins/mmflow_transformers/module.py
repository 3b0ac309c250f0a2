"""The forward pass of a transformers model as an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from mmflow_pretrained.attention import step_by_step
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Encoding, Tokens
from mmflow_transformers.pooling import pooled

if TYPE_CHECKING:
    from mmflow_transformers.description import Description


class Found(NamedTuple):
    """What a model gives: the output of the model without its language modeling head, and the logits of that."""

    output: Any
    logits: Tensor | None = None


def run(
    model: Any, tower: str | None, reads: str, given: Tensor, mask: Tensor | None, *, hidden: bool = False,
    maps: bool = False, language: bool = False, logits: bool = False,
) -> Found:  # fmt: skip
    """The library's output for one input, with hidden states, attention maps and logits if asked."""
    options: dict[str, Any] = {reads: given, "return_dict": True}
    options |= {"output_hidden_states": True} if hidden else {}
    options |= {"output_attentions": True} if maps else {}
    if mask is not None:
        options["attention_mask"] = mask.long()
    if tower is not None:
        return Found(getattr(model, f"get_{tower}_features")(**options))
    if reads == "input_ids" and hasattr(model.config, "use_cache"):
        options["use_cache"] = False
    return called(model, options, language=language, logits=logits)


def called(model: Any, options: Mapping[str, Any], *, language: bool, logits: bool) -> Found:
    """The output of a model; with a language modeling head that of the model beneath, and the logits if asked."""
    if not language:
        # The class's own `forward`, past the one that `encoding` gives the model.
        return Found(type(model).forward(model, **options))
    if not logits:
        return Found(model.base_model(**options))
    seen: list[Any] = []
    watch = model.base_model.register_forward_hook(lambda module, arguments, output: seen.append(output))
    try:
        whole = type(model).forward(model, **options)
    finally:
        watch.remove()
    return Found(seen[0], whole.logits)


def encoding(
    model: nn.Module, about: Description, tower: str | None, pool: str, padding: int, *, language: bool = False
) -> nn.Module:  # fmt: skip
    """The model itself, its parameters under their own names, with the outputs and taps of an encoder.

    Its class stays, as the library finds by it which outputs it can record.
    """
    model.reader = Reader(about, tower, pool, padding, language)  # type: ignore[assignment]
    model.forward = MethodType(_forward, model)
    return model


def _forward(model: Any, value: Any, taps: Sequence[str] = ()) -> dict[str, Any]:
    """One input -> `pooled` [N, D], `tokens` with their mask, `grid`, `ids` of a text, and `taps`."""
    return model.reader.read(model, value, taps)


@dataclass(frozen=True)
class Reader:
    """How a model is given its input, and its output is read."""

    about: Description
    tower: str | None
    pool: str
    padding: int
    language: bool

    def read(self, model: Any, value: Any, taps: Sequence[str]) -> dict[str, Any]:
        """See `_forward`."""
        about = self.about
        given, mask = self._given(value)
        hidden, maps = (any(name.startswith(kind) for name in taps) for kind in ("layers.", "attention."))
        with step_by_step(model) if maps else nullcontext():
            asked = None if about.whole else mask
            found, logits = run(
                model, self.tower, about.reads, given, asked, hidden=hidden, maps=maps, language=self.language,
                logits="logits" in taps,
            )  # fmt: skip
        states, real = self._tokens(model, found.last_hidden_state, mask)
        outputs: dict[str, Any] = {"pooled": self._pooled(found, states, real), "tokens": Tokens(states, real)}
        if about.grid is not None:
            outputs["grid"] = states.unflatten(1, about.grid)
        if about.reads == "input_ids":
            outputs["ids"] = Tokens(given, real)
        for name in taps:
            kind, _, number = name.partition(".")
            if kind == "logits" and logits is not None:
                outputs[name] = Tokens(logits, real)
            elif kind == "layers":
                outputs[name] = Tokens(*self._tokens(model, found.hidden_states[int(number)], mask))
            else:
                outputs[name] = found.attentions[int(number) - 1]
        return outputs

    def _given(self, value: Any) -> tuple[Tensor, Tensor | None]:
        """The input as the library takes it, and the mask of a text or a sound."""
        about = self.about
        if isinstance(value, Encoding):
            frames = next(iter(value.outputs.values()))
            if frames.shape[1] != about.frames:
                raise ValueError(f"the model takes {about.frames} frames, got {frames.shape[1]}: sample them in a view")
            return frames, None
        if not isinstance(value, Tokens):
            return value, None
        if about.reads != "input_ids":
            masked = about.reads == "input_values" and value.values.ndim == 2
            return (value.values, value.mask) if masked else (value.values, None)
        ids, mask = value.values.masked_fill(~value.mask, self.padding), value.mask
        if about.whole and about.context is not None:
            room = about.context - ids.shape[1]
            ids, mask = F.pad(ids, (0, room), value=self.padding), F.pad(mask, (0, room))
        return ids, mask

    def _tokens(self, model: Any, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """States without those before the patches, and which of them are real."""
        states = states[:, self.about.prefix :]
        if mask is not None and self.about.reads == "input_values":
            return states, model._get_feature_vector_attention_mask(states.shape[1], mask.long()).bool()
        if mask is not None:
            return states, mask
        return states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)

    def _pooled(self, found: Any, states: Tensor, real: Tensor) -> Tensor:
        if self.pool == "library" and self.about.pooled:
            return found.pooler_output
        last = self.pool == "last" or (self.pool == "library" and self.about.causal)
        if self.pool == "cls":
            return found.last_hidden_state[:, 0]
        return pooled(states, real, "last" if last else "mean")
