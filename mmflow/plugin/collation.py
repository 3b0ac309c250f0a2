"""Joining the values of rows into tensors: stacked, padded under a mask, or images with channels first.

Torch is needed here, so modalities import this when they join rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmflow.plugin.values import RawValue, TensorType, Tokens

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

WIDENED = {"int32": "int64", "int16": "int64", "uint16": "int64", "uint32": "int64"}

_Array: TypeAlias = "NDArray[Any]"
_Arrays = Sequence["_Array | None"]


def join(
    values: Sequence[RawValue], first: RawValue, declared: TensorType, *, ragged: bool
) -> Tensor | Tokens | list[RawValue]:
    """Values like `first` (None where absent) by their Python type, as `Modality.collate` describes."""
    if isinstance(first, (bool, np.bool_)):
        return torch.from_numpy(np.array([bool(value) for value in values], dtype=bool))
    if isinstance(first, (int, np.integer)):
        return torch.from_numpy(np.array([0 if value is None else int(value) for value in values], dtype=np.int64))
    if isinstance(first, (float, np.floating)):
        return numbers(values, declared)
    if isinstance(first, list):
        return padded([None if value is None else np.asarray(value, dtype=np.int64) for value in values], np.int64)
    if isinstance(first, np.ndarray):
        return arrays(values, first, declared, ragged=ragged)
    return list(values)


def without_tensors(values: Sequence[RawValue], template: RawValue = None) -> tuple[Sequence[RawValue], RawValue]:
    """The values, tensors as numpy arrays, and the first present one, else the template."""
    first = next((value for value in values if value is not None), template)
    if isinstance(first, Tensor):
        return [None if value is None else value.numpy() for value in values], first.numpy()
    return values, first


def numbers(values: Sequence[RawValue], declared: TensorType) -> Tensor:
    """Numbers [N], 0 where absent: float32, or float64 or int64 where declared."""
    dtype = declared.dtype if declared.dtype in ("float64", "int64") else "float32"
    return torch.from_numpy(np.array([0 if value is None else value for value in values], dtype=dtype))


def arrays(values: _Arrays, first: _Array, declared: TensorType, *, ragged: bool) -> Tensor | Tokens:
    """Arrays of equal shapes stacked; those of a `ragged` modality whose length is not declared padded."""
    dtype = common_dtype(values, first, declared)
    shapes = {value.shape for value in values if value is not None}
    if ragged and _is_sequence(first, declared, len(shapes) > 1) and len({shape[1:] for shape in shapes}) <= 1:
        return padded(values, dtype, first.shape[1:])
    return torch.from_numpy(stacked(values, first, dtype))


def _is_sequence(first: _Array, declared: TensorType, unequal: bool) -> bool:
    """Whether rows are padded. By type, not by the lengths that a batch happens to hold, where the type tells."""
    if not first.ndim:
        return False
    if declared.size:
        return declared.size[0] is None
    return unequal or first.ndim > 1 or first.dtype.kind in "iu"


def common_dtype(values: _Arrays, first: _Array, declared: TensorType) -> str:
    """The dtype that holds all of the arrays: small integers as int64, float64 only where declared."""
    wide = np.result_type(*({value.dtype for value in values if value is not None} or {first.dtype}))
    if wide == np.float64 and declared.dtype != "float64":
        return "float32"
    return WIDENED.get(wide.name, wide.name)


def stacked(values: _Arrays, first: _Array, dtype: DTypeLike, hint: str = "") -> _Array:
    """Arrays of one shape as [N, *shape], zeros where absent; raises `ValueError` for different shapes."""
    shapes = sorted({value.shape for value in values if value is not None})
    if len(shapes) > 1:
        raise ValueError(f"values of different shapes in one batch: {shapes[0]} and {shapes[1]}{hint}")
    there = [value for value in values if value is not None]
    if len(there) == len(values):
        return np.stack(there).astype(dtype, copy=False)
    joined = np.zeros((len(values), *first.shape), dtype=dtype)
    for row, value in enumerate(values):
        if value is not None:
            joined[row] = value
    return joined


def padded(values: _Arrays, dtype: DTypeLike, rest: tuple[int, ...] = ()) -> Tokens:
    """Sequences [L, *rest] as [N, longest, *rest] with a mask; an absent row has no member.

    Where all are empty, they have one place, as encoders need one.
    """
    length = max(1, max((len(value) for value in values if value is not None), default=0))
    joined = np.zeros((len(values), length, *rest), dtype=dtype)
    mask = np.zeros((len(values), length), dtype=bool)
    for row, value in enumerate(values):
        if value is not None:
            joined[row, : len(value)] = value
            mask[row, : len(value)] = True
    return Tokens(torch.from_numpy(joined), torch.from_numpy(mask))


def images(values: _Arrays, first: _Array, declared: TensorType) -> Tensor:
    """Images [H, W] or [H, W, C] as [N, C, H, W]: bytes as float32 in [0, 1], floats as they are."""
    dtypes = {value.dtype for value in values if value is not None}
    if len(dtypes) > 1:
        # Bytes beside floats become such floats.
        values = [v.astype(np.float32) / 255 if v is not None and v.dtype == np.uint8 else v for v in values]
    hint = "; a view with `resize`, `center_crop` or `random_resized_crop` makes them equal"
    joined = stacked(values, first, common_dtype(values, first, declared), hint)
    tensor = torch.from_numpy(joined)
    if tensor.ndim == 3:
        tensor = tensor[..., None]
    tensor = tensor.permute(0, 3, 1, 2)
    if joined.dtype != np.uint8:
        return tensor.contiguous()
    return tensor.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def has_channels_last(value: RawValue) -> bool:
    """True for [H, W] and [H, W, C] of bytes, and for floats with channels last; channels first stays as it is."""
    if not isinstance(value, np.ndarray):
        return False
    if value.dtype == np.uint8:
        return value.ndim == 2 or (value.ndim == 3 and value.shape[2] <= 4)
    return value.dtype.kind == "f" and value.ndim == 3 and value.shape[2] <= 4 < value.shape[0]
