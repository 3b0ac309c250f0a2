"""One column of all rows of a data entry: an encoder's output or a field, with the ids of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmflow.artifacts import EncodingsArtifact
from mmflow.data import ColumnBatch
from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import ABSENT, Argument, Encoding, Tokens


@dataclass(frozen=True)
class Part:
    """`value` is an `Encoding` with one output, a tensor [N, ...], `Tokens` or a list, for the rows `ids`.

    `skipped` are samples that the source's policy left out, with the reason. `axis` is that of the rows: a static
    field (names of classes, nodes of one graph) has its own.
    """

    ids: list[str]
    value: Argument
    skipped: Mapping[str, str] = field(default_factory=dict)
    axis: str = "sample"

    def rows(self, ids: Sequence[str]) -> Argument:
        """The value for `ids`, each of which must be there."""
        if self.ids == ids:
            return self.value
        places = {id: place for place, id in enumerate(self.ids)}
        index = [places[id] for id in ids]
        if isinstance(self.value, list):
            return [self.value[place] for place in index]
        at = torch.tensor(index, dtype=torch.int64)
        if isinstance(self.value, Encoding):
            return self.value.rows(at)
        if isinstance(self.value, Tokens):
            return Tokens(self.value.values[at], self.value.mask[at])
        return self.value[at]

    def write(self, directory: Path) -> None:
        """Store an encoding with its rows."""
        EncodingsArtifact(directory).write(self.value, self.ids, self.skipped)

    @classmethod
    def read(cls, directory: Path) -> Part:
        """Read a directory that `write` has filled."""
        encoding, ids, skipped = EncodingsArtifact(directory).read()
        return cls(ids, encoding, skipped, encoding.axes[0])


def common_axis(parts: Sequence[Part]) -> str:
    """The axis of the rows that are joined: that of the samples, or where there are none that of the first part."""
    axes = [part.axis for part in parts]
    return "sample" if "sample" in axes or not axes else axes[0]


def common_rows(parts: Sequence[Part]) -> list[str]:
    """Ids of the rows that every part of the common axis has, in the order of the first."""
    axis = common_axis(parts)
    parts = [part for part in parts if part.axis == axis]
    if not parts:
        return []
    shared = set(parts[0].ids).intersection(*(part.ids for part in parts[1:]))
    return [id for id in parts[0].ids if id in shared]


def join(parts: Sequence[Encoding]) -> Encoding:
    """Encodings of consecutive rows as one; shorter groups and sequences are padded and marked absent."""
    groups = len(parts[0].axes) - 1
    present = [part.present for part in parts]
    first = [next(iter(part.outputs.values())) for part in parts]
    shapes = [(v.mask if isinstance(v, Tokens) else v).shape[: 1 + groups] for v in first]
    ragged = len({tuple(shape[1:]) for shape in shapes}) > 1
    whole: Tensor | None = None
    if ragged or any(p is not None for p in present):
        whole = _padded(
            [torch.ones(s, dtype=torch.bool) if p is None else p for p, s in zip(present, shapes, strict=True)]
        )
    outputs: dict[str, Argument] = {}
    for name, value in parts[0].outputs.items():
        values = [part.outputs[name] for part in parts]
        if isinstance(value, Tokens):
            outputs[name] = Tokens(_padded([v.values for v in values]), _padded([v.mask for v in values]))
        else:
            outputs[name] = _padded(values)
    return Encoding(outputs, parts[0].axes, whole)


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
    whole = tensors[0].new_zeros((sum(len(t) for t in tensors), *shape))
    start = 0
    for tensor in tensors:
        whole[(slice(start, start + len(tensor)), *(slice(0, size) for size in tensor.shape[1:]))] = tensor
        start += len(tensor)
    return whole


def values_of(column: ColumnBatch) -> Argument:
    """The values of a column as an evaluator receives them: absent ones NaN in floats, `ABSENT` in int64 of one number
    a member, -1 in arrays of integers."""
    values, present = column.values, column.present
    if present is None or not isinstance(values, Tensor):
        return values
    absent = ~present.reshape(*present.shape, *[1] * (values.ndim - present.ndim))
    if values.is_floating_point():
        return values.masked_fill(absent, torch.nan)
    if values.dtype == torch.bool:
        return values
    single = values.dtype == torch.int64 and values.ndim == present.ndim
    return values.masked_fill(absent, ABSENT if single else -1)


def joined(parts: list[Argument]) -> Argument:
    if not parts:
        return []
    if isinstance(parts[0], Tokens):
        return Tokens(_padded([p.values for p in parts]), _padded([p.mask for p in parts]))
    if isinstance(parts[0], Tensor):
        return _padded(parts)
    return [value for part in parts for value in part]


def check_finite(encoding: Encoding, name: str) -> None:
    for value in encoding.outputs.values():
        tensor = value.values if isinstance(value, Tokens) else value
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ComponentError(
                f"{name} has values that are not finite",
                hint="the model diverged: train with a lower lr or with `clip`",
            )
