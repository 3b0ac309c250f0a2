"""The first numbers of vectors, which stand for the whole at several lengths (Kusupati et al., 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from mmflow.model.draws import Inputs
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Loss
from mmflow.plugin.values import Argument, Encoding

Key = TypeVar("Key")


def over_dims(loss: Loss, inputs: Inputs, compute: Callable[[Inputs], Argument]) -> Argument:
    """The weighted sum of the values of a loss at each of its `dims`; of a row loss with the weights of its rows."""
    weights = loss.dim_weights or (1.0,) * len(loss.dims)
    total: Argument = None
    for dim, weight in zip(loss.dims, weights, strict=True):
        found = compute(cut_vectors(inputs, dim, loss.use))
        value, rows = found if isinstance(found, tuple) else (found, None)
        value = value * weight if total is None else value * weight + (total[0] if rows is not None else total)
        total = value if rows is None else (value, rows)
    return total


def cut_vectors(inputs: Mapping[Key, Encoding | None], dim: int, reader: str) -> dict[Key, Encoding | None]:
    """Inputs with the first `dim` numbers of their vectors; what is as wide as none of the first input's stays.

    Raises `ComponentError` where vectors are shorter, or where no input has any.
    """
    widths = {width for encoding in inputs.values() if (width := _width(encoding)) is not None}
    if not widths:
        raise ComponentError(f"{reader} has `dims`, and reads no vectors", hint="leave `dims` out")
    if dim > min(widths):
        raise ComponentError("`dims` asks for more than there is", found=f"{dim} of vectors of {min(widths)} numbers")
    return {key: encoding and _cut(encoding, dim) for key, encoding in inputs.items()}


def leading(encodings: Sequence[Encoding], dim: int, reader: str) -> tuple[Encoding, ...]:
    """Encodings with the first `dim` numbers of their vectors."""
    cut = cut_vectors(dict(enumerate(encodings)), dim, reader)
    return tuple(cut[place] or encoding for place, encoding in enumerate(encodings))


def _vectors(encoding: Encoding | None) -> dict[str, Tensor]:
    """The outputs that are vectors: floats with one axis beside those of rows and groups."""
    if encoding is None:
        return {}
    return {
        name: value
        for name, value in encoding.outputs.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == len(encoding.axes) + 1
    }


def _width(encoding: Encoding | None) -> int | None:
    return next((value.shape[-1] for value in _vectors(encoding).values()), None)


def _cut(encoding: Encoding, dim: int) -> Encoding:
    vectors = {name: value[..., :dim] for name, value in _vectors(encoding).items()}
    return replace(encoding, outputs={**encoding.outputs, **vectors})
