"""Batches: columns of tensors with named axes and presence, joined from the values of single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmflow.plugin.values import TensorType, Tokens


@dataclass
class ColumnBatch:
    """One column: `values` [N, *groups, ...] as a tensor or `Tokens`, or a (nested) list of text and objects.

    `axes` names the row axis and the group axes; `present` is bool [N, *groups], or None where all is there.
    What is absent holds zeros (None in lists).
    """

    values: Any
    axes: tuple[str, ...] = ("sample",)
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


def map_members(value: Any, depth: int, function: Callable[[Any], Any] | None) -> Any:
    """Apply `function` to the members of a value with `depth` group axes, as nested lists; absent ones stay None."""
    if value is None:
        return None
    if depth == 0:
        return value if function is None else function(value)
    return [map_members(member, depth - 1, function) for member in value]


def collate(values: Sequence[Any], declared: TensorType, template: Any = None) -> ColumnBatch:
    """Join one value a row (nested lists over group axes, None where absent) into a column of type `declared`.

    A uint8 picture [H, W, C] becomes float32 [C, H, W] in [0, 1], one of floats keeps its values; a list of ints
    becomes `Tokens` padded with 0, and so do sequences whose first size is declared unknown; text and other objects
    stay lists. `template` (a member as it would be) gives the shape where every row is absent.
    Raises `ValueError` where the rows have different shapes.
    """
    depth = len(declared.axes) - 1
    sizes = _group_sizes(values, depth, declared.groups)
    flat: list[Any] = []
    for value in values:
        _flatten(value, sizes, flat)
    here = np.fromiter((member is not None for member in flat), dtype=bool, count=len(flat))
    joined = _join(flat, here, declared, template)
    shape = (len(values), *sizes)
    if isinstance(joined, list):
        for size in reversed(sizes):
            joined = [joined[i : i + size] for i in range(0, len(joined), size)] if size else [[] for _ in values]
    elif sizes:
        column = ColumnBatch(joined).map(lambda tensor: tensor.reshape(*shape, *tensor.shape[1:]))
        joined = column.values
    present = None if here.all() else torch.from_numpy(here.reshape(shape))
    return ColumnBatch(joined, declared.axes, present)


def _group_sizes(values: Sequence[Any], depth: int, declared: Sequence[int | None]) -> tuple[int, ...]:
    sizes: list[int] = []
    level = list(values)
    for axis in range(depth):
        groups = [group for group in level if group is not None]
        known = declared[axis] if axis < len(declared) else None
        largest = max((len(group) for group in groups), default=0)
        if known is not None and largest > known:
            raise ValueError(f"a group of {largest} where {known} are declared")
        sizes.append(largest if known is None else known)
        level = [member for group in groups for member in group]
    return tuple(sizes)


def _flatten(value: Any, sizes: tuple[int, ...], out: list[Any]) -> None:
    if not sizes:
        out.append(value)
        return
    members = () if value is None else value
    for place in range(sizes[0]):
        _flatten(members[place] if place < len(members) else None, sizes[1:], out)


def _join(flat: list[Any], here: np.ndarray, declared: TensorType, template: Any) -> Any:
    first = next((member for member in flat if member is not None), template)
    if first is None:
        return _nothing(len(flat), declared)
    if isinstance(first, Tensor):
        flat = [None if member is None else member.numpy() for member in flat]
        first = first.numpy()
    if isinstance(first, (bool, np.bool_)):
        return torch.from_numpy(np.array([bool(member) for member in flat], dtype=bool))
    if isinstance(first, (int, np.integer)) and declared.modality != "number":
        return torch.from_numpy(np.array([0 if member is None else int(member) for member in flat], dtype=np.int64))
    if isinstance(first, (int, float, np.integer, np.floating)):
        dtype = np.float64 if declared.dtype == "float64" else np.float32
        return torch.from_numpy(np.array([0.0 if member is None else member for member in flat], dtype=dtype))
    if isinstance(first, list):
        return _pad([None if m is None else np.asarray(m, dtype=np.int64) for m in flat], np.int64)
    if isinstance(first, np.ndarray):
        return _join_arrays(flat, here, first, declared)
    return flat


def _join_arrays(flat: list[Any], here: np.ndarray, first: np.ndarray, declared: TensorType) -> Any:
    picture = declared.modality in ("image", "video") and _is_picture(first)
    dtypes = {member.dtype for member in flat if member is not None} or {first.dtype}
    if picture and len(dtypes) > 1:
        # Bytes beside floats, which are what they become.
        flat = [m.astype(np.float32) / 255 if m is not None and m.dtype == np.uint8 else m for m in flat]
        dtypes = {member.dtype for member in flat if member is not None}
    wide = np.result_type(*dtypes)
    dtype = WIDENED.get(wide.name, wide.name)
    if wide == np.float64 and declared.dtype != "float64":
        dtype = "float32"
    shapes = {member.shape for member in flat if member is not None}
    if not picture and _is_sequence(first, declared, len(shapes) > 1) and len({shape[1:] for shape in shapes}) <= 1:
        return _pad(flat, dtype, first.shape[1:])
    if len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        hint = "; a view with `resize`, `center_crop` or `random_resized_crop` makes them equal" if picture else ""
        raise ValueError(f"values of different shapes in one batch: {one} and {other}{hint}")
    if here.all():
        joined = np.stack(flat).astype(dtype, copy=False)
    else:
        joined = np.zeros((len(flat), *first.shape), dtype=dtype)
        for row, member in enumerate(flat):
            if member is not None:
                joined[row] = member
    tensor = torch.from_numpy(joined)
    if not picture:
        return tensor
    if tensor.ndim == 3:
        tensor = tensor[..., None]
    tensor = tensor.permute(0, 3, 1, 2)
    if joined.dtype != np.uint8:
        return tensor.contiguous()
    return tensor.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _is_picture(value: np.ndarray) -> bool:
    """True for [H, W] and [H, W, C] of bytes, and for floats with channels last; channels first stays as it is."""
    if value.dtype == np.uint8:
        return value.ndim == 2 or (value.ndim == 3 and value.shape[2] <= 4)
    return value.dtype.kind == "f" and value.ndim == 3 and value.shape[2] <= 4 < value.shape[0]


WIDENED = {"int32": "int64", "int16": "int64", "uint16": "int64", "uint32": "int64"}

SEQUENCES = frozenset({"tokens", "audio", "series", "labels", "text", "boxes", "graph"})
"""Modalities whose unknown first size is a length: rows are padded and come with a mask."""


def _is_sequence(first: np.ndarray, declared: TensorType, ragged: bool) -> bool:
    """Whether rows are padded. By type, not by the lengths that a batch happens to hold, where the type tells."""
    if not first.ndim or declared.modality not in SEQUENCES:
        return False
    if declared.size:
        return declared.size[0] is None
    return ragged or first.ndim > 1 or first.dtype.kind in "iu"


def _pad(flat: list[Any], dtype: Any, rest: tuple[int, ...] = ()) -> Tokens:
    length = max((len(member) for member in flat if member is not None), default=0)
    values = np.zeros((len(flat), length, *rest), dtype=dtype)
    mask = np.zeros((len(flat), length), dtype=bool)
    for row, member in enumerate(flat):
        if member is not None:
            values[row, : len(member)] = member
            mask[row, : len(member)] = True
    return Tokens(torch.from_numpy(values), torch.from_numpy(mask))


def _nothing(rows: int, declared: TensorType) -> Any:
    """A column in which every row is absent, in the shape that its type declares."""
    if declared.modality in ("text", "id", "graph"):
        return [None] * rows
    size = tuple(0 if s is None else s for s in declared.size)
    if declared.modality == "image" and len(size) == 3:
        size = (size[2], size[0], size[1])
    dtype = torch.int64 if declared.modality in ("label", "labels") else torch.float32
    return torch.zeros((rows, *size), dtype=dtype)


__all__ = ["Batch", "ColumnBatch", "collate", "map_members"]
