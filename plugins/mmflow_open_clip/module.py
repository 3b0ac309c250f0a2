"""The towers of an open_clip model as encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens

Watch = Mapping[str, Any]


def tower_of(model: Any, tower: Literal["image", "text"]) -> nn.Module:
    """One tower of a model, its parameters under their own names; its `forward` gives the pooled vector and tokens."""
    if tower == "image":
        return _with_tokens(model.visual)
    return _with_tokens(model.text) if hasattr(model, "text") else _Text(model)


def _with_tokens(tower: nn.Module) -> nn.Module:
    if hasattr(tower, "output_tokens"):
        tower.output_tokens = True  # type: ignore[assignment]
    tower.__class__ = type(f"Encoding{type(tower).__name__}", (_Tower, type(tower)), {})
    return tower


class _Tower(nn.Module):
    """A tower whose own `forward` gives a pooled vector, perhaps with tokens."""

    def forward(self, x: Tensor, seen: Watch | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = super().forward(x)
        return found if isinstance(found, tuple) else (found, None)


class _Text(nn.Module):
    """The text tower of a `CLIP`, which keeps its parts itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.token_embedding, self.transformer, self.ln_final = model.token_embedding, model.transformer, model.ln_final
        self.positional_embedding, self.text_projection = model.positional_embedding, model.text_projection
        self.pool_type, self.end = model.text_pool_type, model.text_eos_id
        self.register_buffer("attn_mask", model.attn_mask, persistent=False)

    def forward(self, ids: Tensor, seen: Watch | None = None) -> tuple[Tensor, Tensor]:
        """ids [N, context] -> pooled [N, D], tokens [N, context, D']."""
        from open_clip.transformer import text_global_pool

        x = self.token_embedding(ids) + self.positional_embedding
        tokens = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        pooled = text_global_pool(tokens, ids, self.pool_type, eos_token_id=self.end)
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(pooled), tokens
        return (pooled if self.text_projection is None else pooled @ self.text_projection), tokens


def blocks_of(tower: Any) -> list[Any]:
    """The blocks of a transformer of open_clip; none of another tower."""
    blocks = list(getattr(getattr(tower, "transformer", None), "resblocks", ()))
    return blocks if all(hasattr(getattr(block, "attn", None), "num_heads") for block in blocks) else []


def encoding(tower: nn.Module, about: Any, padding: int) -> nn.Module:
    """The tower with the outputs and taps of an encoder; ids are padded with `padding` to the length of the model."""
    kind = _ImageEncoding if about.before else _TextEncoding
    tower.__class__ = type(type(tower).__name__, (kind, type(tower)), {})
    assert isinstance(tower, _Encoding)
    tower.about, tower.padding = about, padding
    return tower


class _Encoding(nn.Module):
    about: Any
    padding: int

    def _run(self, given: Tensor, taps: Sequence[str]) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        with _watched(self, taps) as seen:
            pooled, tokens = super().forward(given)
        found = {}
        for name, value in seen.items():
            if name.startswith("layers."):
                own = value if self.transformer.batch_first else value.transpose(0, 1)  # type: ignore[union-attr]
                value = own[:, self.about.before : own.shape[1] - self.about.behind]
            found[name] = value
        return pooled, tokens, found


class _ImageEncoding(_Encoding):
    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[N, 3, H, W] -> `pooled` [N, D], `tokens`, `grid` and `taps`."""
        pooled, tokens, seen = self._run(image, taps)
        outputs: dict[str, Any] = {"pooled": pooled}
        if tokens is not None:
            outputs["tokens"] = _all_there(tokens)
            if self.about.grid is not None:
                outputs["grid"] = tokens.unflatten(1, self.about.grid)
        layers = {name: _all_there(value) for name, value in seen.items() if name.startswith("layers.")}
        return {**outputs, **seen, **layers}


class _TextEncoding(_Encoding):
    def forward(self, text: Tokens, taps: Sequence[str] = ()) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ids [N, L] with their mask -> `pooled` [N, D], `tokens` [N, context, D'] with the mask, and `taps`."""
        room = self.about.context - text.values.shape[1]
        ids = F.pad(text.values.masked_fill(~text.mask, self.padding), (0, room), value=self.padding)
        mask = F.pad(text.mask, (0, room))
        pooled, tokens, seen = self._run(ids, taps)
        outputs: dict[str, Any] = {"pooled": pooled, "ids": Tokens(ids, mask)}
        if tokens is not None:
            outputs["tokens"] = Tokens(tokens, mask[:, : tokens.shape[1]])
        layers = {name: Tokens(value, mask) for name, value in seen.items() if name.startswith("layers.")}
        return {**outputs, **seen, **layers}


def _all_there(tokens: Tensor) -> Tokens:
    return Tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


@contextmanager
def _watched(tower: nn.Module, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what blocks give and how they attend, for `layers.N` and `attention.N`."""
    seen: dict[str, Tensor] = {}
    blocks, handles = blocks_of(tower), []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, result: Tensor) -> None:
            seen[name] = result

        return hook

    def attend(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, options: dict[str, Any]) -> None:
            if options.get("need_weights"):
                # This very call.
                return
            wanted = {**options, "need_weights": True, "average_attn_weights": False}
            seen[name] = module(*given, **wanted)[1]

        return hook

    try:
        for name in taps:
            kind, _, number = name.partition(".")
            block = blocks[int(number) - 1]
            if kind == "layers":
                handles.append(block.register_forward_hook(keep(name)))
            else:
                handles.append(block.attn.register_forward_pre_hook(attend(name), with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()
