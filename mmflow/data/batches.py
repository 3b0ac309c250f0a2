"""Batches: columns of tensors with named axes and presence, joined from the values of single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mmflow.plugin.modality import Modality, modality
from mmflow.plugin.values import SAMPLE, RawValue, TensorType, Tokens, of_samples


@dataclass
class ColumnBatch:
    """One column: `values` [N, *groups, ...] as a tensor or `Tokens`, or a (nested) list of text and objects.

    `axes` names the row axis and the group axes; `present` is bool [N, *groups], or None where all is there.
    Absent values are zeros (None in lists).
    """

    values: Tensor | Tokens | list[RawValue]
    axes: tuple[str, ...] = (SAMPLE,)
    present: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> ColumnBatch:
        """Apply `function` to every tensor; lists stay as they are."""
        values = self.values
        if isinstance(values, Tokens):
            values = Tokens(function(values.values), function(values.mask))
        elif isinstance(values, Tensor):
            values = function(values)
        return replace(self, values=values, present=None if self.present is None else function(self.present))

    def rows(self, start: int, stop: int) -> ColumnBatch:
        cut = self.map(lambda tensor: tensor[start:stop])
        return replace(cut, values=cut.values[start:stop]) if isinstance(cut.values, list) else cut

    def on_axis(self, axis: str) -> ColumnBatch:
        """The column with its rows on the axis of a stream; one without samples stays as it is."""
        return replace(self, axes=(axis, *self.axes[1:])) if of_samples(self.axes[0]) else self

    def __len__(self) -> int:
        return len(self.values.mask) if isinstance(self.values, Tokens) else len(self.values)


@dataclass
class Batch:
    """A global batch: `columns` by the key of their request, `ids` of its rows, its place in the epoch.

    `skipped` tells of samples that their source's policy left out: their ids with (reason, quarantine file).
    """

    columns: dict[str, ColumnBatch]
    ids: list[str]
    size: int
    epoch: int = 0
    index: int = 0
    skipped: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    """The place of each row in the global batch as it was drawn: of all ranks, with those that were left out."""

    streams: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the rows of each stream, by its axis, where there are several."""

    def row_ids(self) -> dict[str, list[str]]:
        """The ids of the rows by their axis; none for a batch of static fields alone."""
        if self.streams:
            return {axis: ids for axis, ids in self.streams.items() if ids}
        axes = {column.axes[0] for column in self.columns.values() if of_samples(column.axes[0])}
        return dict.fromkeys((SAMPLE, *sorted(axes)), self.ids) if self.size else {}

    def rows(self, start: int, stop: int) -> Batch:
        """Rows `start` to `stop`, as views of this batch's tensors (a micro-batch)."""
        columns = {key: column.rows(start, stop) for key, column in self.columns.items()}
        ids, places = self.ids[start:stop], self.places[start:stop]
        return replace(self, columns=columns, ids=ids, size=len(ids), places=places)

    def to(self, device: str | torch.device) -> Batch:
        """The batch on `device`; copies from pinned memory do not wait."""
        columns = {k: c.map(lambda tensor: tensor.to(device, non_blocking=True)) for k, c in self.columns.items()}
        return replace(self, columns=columns)

    def pin_memory(self) -> Batch:
        return replace(self, columns={k: c.map(lambda tensor: tensor.pin_memory()) for k, c in self.columns.items()})


def map_members(value: RawValue, depth: int, function: Callable[[RawValue], RawValue] | None) -> RawValue:
    """Apply `function` to the members of a value with `depth` group axes, as nested lists; absent ones stay None."""
    if value is None:
        return None
    if depth == 0:
        return value if function is None else function(value)
    return [map_members(member, depth - 1, function) for member in value]


def collate_values(values: Sequence[RawValue], declared: TensorType, index: int | None) -> ColumnBatch:
    """A column of values from elsewhere, one a row, for a reader of a field of type `declared`, or of the member
    `index` of its first group: each value stands there, and before it."""
    if index is None:
        return collate(values, declared.with_(axes=("sample",), groups=()))
    members = declared.with_(axes=("sample", *declared.axes[1:2]), groups=(index + 1,))
    return collate([[value] * (index + 1) for value in values], members)


def collate(
    values: Sequence[RawValue], declared: TensorType, template: RawValue = None, *, by: Modality | None = None
) -> ColumnBatch:
    """Join one value a row (nested lists over group axes, None where absent) into a column of type `declared`.

    `by` is the modality of `declared`, looked up where it is None: it joins the members of all groups
    (`Modality.collate`), and says which are there. `template` (a member as it would be) gives the shape where every
    row is absent. Raises `ValueError` where the rows have different shapes.
    """
    by = by or modality(declared.modality)
    sizes = _group_sizes(values, len(declared.axes) - 1, declared.groups)
    members: list[RawValue] = []
    for value in values:
        _flatten(value, sizes, members)
    there = np.fromiter(map(by.present, members), dtype=bool, count=len(members))
    joined = by.collate([m if here else None for m, here in zip(members, there, strict=True)], declared, template)
    shape = (len(values), *sizes)
    if isinstance(joined, list):
        for size in reversed(sizes):
            joined = [joined[i : i + size] for i in range(0, len(joined), size)] if size else [[] for _ in values]
    elif sizes:
        column = ColumnBatch(joined).map(lambda tensor: tensor.reshape(*shape, *tensor.shape[1:]))
        joined = column.values
    present = None if there.all() else torch.from_numpy(there.reshape(shape))
    return ColumnBatch(joined, declared.axes, present)


def _group_sizes(values: Sequence[RawValue], depth: int, declared: Sequence[int | None]) -> tuple[int, ...]:
    sizes: list[int] = []
    level = list(values)
    for axis in range(depth):
        groups = [group for group in level if group is not None]
        known = declared[axis] if axis < len(declared) else None
        largest = max((len(group) for group in groups), default=0)
        if known is not None and largest > known:
            raise ValueError(f"a group of {largest} where {known} are declared")
        # Encoders see one absent member where no row has any.
        sizes.append(max(1, largest) if known is None else known)
        level = [member for group in groups for member in group]
    return tuple(sizes)


def _flatten(value: RawValue, sizes: tuple[int, ...], out: list[RawValue]) -> None:
    if not sizes:
        out.append(value)
        return
    members = () if value is None else value
    for place in range(sizes[0]):
        _flatten(members[place] if place < len(members) else None, sizes[1:], out)


__all__ = ["Batch", "ColumnBatch", "collate", "map_members"]
