"""Made-up values of every modality by declared type: raw ones as sources give them, and outputs of encoders."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmflow.data import collate
from mmflow.plugin import Encoder, TensorType, Tokens
from mmflow.plugin.values import Argument, RawValue, State

WORDS = ("red", "green", "a", "small", "square", "over", "the", "circle", "blue", "large")
LENGTH = 5
"""Members of a sequence whose length is not declared."""


def raw_value(kind: TensorType, draw: np.random.Generator, row: int = 0) -> RawValue:
    """One raw value of a field of type `kind`, in the form of its modality; rows differ in class and length."""
    if kind.modality == "image":
        height, width, channels = (
            size or other for size, other in zip(kind.size or (40, 50, 3), (40, 50, 3), strict=True)
        )
        return draw.integers(0, 256, size=(height, width, channels), dtype=np.uint8)
    if kind.modality == "text":
        return " ".join(draw.choice(WORDS, size=2 + row % LENGTH))
    if kind.modality == "audio":
        return draw.normal(size=800).astype(np.float32), kind.rate or 8000
    if kind.modality == "label":
        return row % (len(kind.names) or 3)
    if kind.modality == "number":
        return float(draw.normal())
    if kind.modality == "mask":
        return draw.random(size=(8, 8)) < 0.5
    shape = tuple(LENGTH + row % 3 if size is None else size for size in kind.size)
    return draw.normal(size=shape).astype(np.float32)


def tensor_value(kind: TensorType, rows: int, draw: torch.Generator, *, ragged: bool) -> Tensor | Tokens:
    """An encoder's output of type `kind` for so many rows, in float64; rows of a ragged sequence end in padding."""
    shape = (rows, *(group or 2 for group in kind.groups), *(LENGTH if size is None else size for size in kind.size))
    values = torch.randn(shape, generator=draw, dtype=torch.float64)
    if kind.modality not in ("tokens", "series"):
        return values
    length = values.shape[1]
    lengths = length - (torch.arange(rows) % length if ragged and kind.size[:1] == (None,) else torch.zeros(rows))
    return Tokens(values, torch.arange(length)[None] < lengths[:, None])


RAW = ("image", "text", "audio", "label", "number", "mask", "video", "boxes", "graph")
"""Modalities whose values an encoder prepares itself."""


def inputs_of(
    encoder: Encoder, kinds: tuple[TensorType, ...], rows: int, *, ragged: bool = False, seed: int = 0
) -> tuple[list[Argument], State]:
    """Values of all inputs of an encoder as its module receives them, and the preprocessing that it learned of them."""
    draw, torch_draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    state: dict[str, RawValue] = {}
    raws = {
        place: [_grouped(kind, kind.groups, draw, row) for row in range(rows if kind.axes[0] == "sample" else 3)]
        for place, kind in enumerate(kinds)
        if kind.modality in RAW
    }
    for place in encoder.learns():
        if place in raws:
            state.update(encoder.learn(place, raws[place]))
    found: list[Argument] = []
    for place, kind in enumerate(kinds):
        if place in raws:
            prepared = [_prepared(encoder, place, value, len(kind.groups), state) for value in raws[place]]
            values = collate(prepared, kind).values
            found.append(_double(values))
        else:
            found.append(tensor_value(kind, rows if kind.axes[0] == "sample" else 3, torch_draw, ragged=ragged))
    return found, state


def _grouped(kind: TensorType, groups: tuple[int | None, ...], draw: np.random.Generator, row: int) -> RawValue:
    if not groups:
        return raw_value(kind, draw, row)
    return [_grouped(kind, groups[1:], draw, row) for _ in range(groups[0] or 2)]


def _prepared(encoder: Encoder, place: int, value: RawValue, depth: int, state: State) -> RawValue:
    if depth:
        return [_prepared(encoder, place, member, depth - 1, state) for member in value]
    return encoder.preprocess(place, value, state)


def _double(value: Argument) -> Argument:
    if isinstance(value, Tokens):
        return Tokens(_double(value.values), value.mask)
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
