"""The forward pass of a timm model as an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_timm.description import Description, attending, channels_last, grid_of


def encoding(model: nn.Module, about: Description) -> nn.Module:
    """The model itself, its parameters under their own names, with the outputs and taps of an encoder."""
    model.__class__ = type(f"Encoding{type(model).__name__}", (_Encoding, type(model)), {})
    assert isinstance(model, _Encoding)
    model.about = about
    return model


class _Encoding(nn.Module):
    about: Description

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[N, 3, H, W] -> `pooled` [N, D], `tokens`, `grid`, `logits` and `taps`."""
        model: Any = self
        numbers = {name: int(name.partition(".")[2]) for name in taps}
        wanted = sorted({number - 1 for name, number in numbers.items() if name.startswith("layers.")})
        with _maps(self, [n for name, n in numbers.items() if name.startswith("attention.")]) as maps:
            if wanted:
                features, found = model.forward_intermediates(image, indices=wanted)
            else:
                features, found = model.forward_features(image), []
        outputs: dict[str, Any] = {"pooled": model.forward_head(features, pre_logits=True)}
        if self.about.classes:
            outputs["logits"] = model.forward_head(features)
        if self.about.sequence:
            patches = features[:, self.about.prefix :]
            outputs["tokens"] = _unmasked(patches)
            if (grid := grid_of(model, features, image)) is not None:
                outputs["grid"] = patches.unflatten(1, grid)
        else:
            outputs["grid"] = channels_last(model, features)
        for number, each in zip(wanted, found, strict=True):
            places = each.permute(0, 2, 3, 1)
            outputs[f"layers.{number + 1}"] = _unmasked(places.flatten(1, 2)) if self.about.sequence else places
        return {**outputs, **{f"attention.{number}": value for number, value in maps.items()}}


def _unmasked(tokens: Tensor) -> Tokens:
    return Tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


@contextmanager
def _maps(model: nn.Module, numbers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Collect the attention maps of blocks, by number: their attention is computed step by step meanwhile."""
    found: dict[int, Tensor] = {}
    handles, fused = [], []

    def keep(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[number] = given[0]

        return hook

    blocks = attending(model) if numbers else []
    try:
        for number in numbers:
            attention = blocks[number - 1].attn
            handles.append(attention.attn_drop.register_forward_pre_hook(keep(number)))
            fused.append((attention, attention.fused_attn))
            attention.fused_attn = False
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for attention, before in fused:
            attention.fused_attn = before
