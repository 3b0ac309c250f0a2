"""The forward pass of a transformers model as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from mmflow_pretrained.attention import step_by_step
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Encoding, Tokens

if TYPE_CHECKING:
    from mmflow_transformers.description import Description


def run(
    model: Any, tower: str | None, reads: str, given: Tensor, mask: Tensor | None, *, hidden: bool = False,
    maps: bool = False,
) -> Any:  # fmt: skip
    """The library's output for one input, with hidden states and attention maps if asked."""
    options: dict[str, Any] = {reads: given, "return_dict": True}
    options |= {"output_hidden_states": True} if hidden else {}
    options |= {"output_attentions": True} if maps else {}
    if mask is not None:
        options["attention_mask"] = mask.long()
    if tower is not None:
        return getattr(model, f"get_{tower}_features")(**options)
    if reads == "input_ids" and hasattr(model.config, "use_cache"):
        options["use_cache"] = False
    # The class's own `forward`, past the one that `encoding` gives the model.
    return type(model).forward(model, **options)


def encoding(model: nn.Module, about: Description, tower: str | None, pool: str, padding: int) -> nn.Module:
    """The model itself, its parameters under their own names, with the outputs and taps of an encoder.

    Its class stays, as the library finds by it which outputs it can record.
    """
    model.reader = Reader(about, tower, pool, padding)  # type: ignore[assignment]
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

    def read(self, model: Any, value: Any, taps: Sequence[str]) -> dict[str, Any]:
        """See `_forward`."""
        about = self.about
        given, mask = self._given(value)
        hidden, maps = (any(name.startswith(kind) for name in taps) for kind in ("layers.", "attention."))
        with step_by_step(model) if maps else nullcontext():
            asked = None if about.whole else mask
            found = run(model, self.tower, about.reads, given, asked, hidden=hidden, maps=maps)
        states, real = self._tokens(model, found.last_hidden_state, mask)
        outputs: dict[str, Any] = {"pooled": self._pooled(found, states, real), "tokens": Tokens(states, real)}
        if about.grid is not None:
            outputs["grid"] = states.unflatten(1, about.grid)
        if about.reads == "input_ids":
            outputs["ids"] = Tokens(given, real)
        for name in taps:
            kind, _, number = name.partition(".")
            if kind == "layers":
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
        if last:
            return states[torch.arange(len(states), device=states.device), real.sum(1).sub(1).clamp_min(0)]
        weight = real.to(states.dtype).unsqueeze(-1)
        return (states * weight).sum(1) / weight.sum(1).clamp_min(1)
