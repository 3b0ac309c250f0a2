"""What memories store of a column: its shape and type, and rows without gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmflow.plugin import ComponentError, TensorType

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PREFIX = "column."
"""In front of the name of a column in a state."""


def row_of(memory: str, name: str, column: TensorType) -> tuple[int, ...]:
    """The shape of one row. Raises `ComponentError` where it is not known."""
    if None in column.size:
        raise ComponentError(
            f"{memory} does not know the size of a row of its column {name!r}",
            found=f"{column.modality} {list(column.size)}",
            expected="vectors of known width, or one number a row",
        )
    return tuple(int(n) for n in column.size if n is not None)


def floating(column: TensorType) -> torch.dtype | None:
    """The floating type of a column; None for whole numbers and ids, which are kept as int64."""
    import torch

    dtype = getattr(torch, column.dtype, None)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else None


def first_buffer(
    memory: str, name: str, column: TensorType, rows: int, fill: str, generator: torch.Generator
) -> Tensor:
    """The buffer [rows, ...] in which a column begins: zeros, -1 for whole numbers and ids, and with `fill` of `random`
    vectors of length one. Raises `ComponentError` where the shape of a row is not known."""
    import torch
    from torch.nn.functional import normalize

    shape, dtype = (rows, *row_of(memory, name, column)), floating(column)
    if dtype is None:
        return torch.full(shape, -1, dtype=torch.int64)
    if fill == "random":
        return normalize(torch.randn(shape, generator=generator, dtype=dtype), dim=-1)
    return torch.zeros(shape, dtype=dtype)


def numeric(memory: str, name: str, column: TensorType) -> torch.dtype:
    """The floating type of a column that is averaged. Raises `ComponentError` for whole numbers and ids."""
    dtype = floating(column)
    if dtype is None:
        raise ComponentError(
            f"{memory} averages its columns, and {name!r} has whole numbers",
            found=f"{column.modality} {column.dtype}",
            expected="vectors, or one number with a fraction a row",
        )
    return dtype


def stored(rows: Tensor, like: Tensor, *, unit: bool = False) -> Tensor:
    """Rows without gradient, of the type and on the device of a buffer; `unit`: vectors of length one."""
    from torch.nn.functional import normalize

    rows = rows.detach()
    if unit and rows.is_floating_point():
        rows = normalize(rows, dim=-1)
    return rows.to(like)


def like_rows(numbers: Tensor, rows: Tensor) -> Tensor:
    """One number a row [N], spread over the shape of rows [N, ...]."""
    return numbers.reshape(-1, *(1 for _ in rows.shape[1:]))


def columns_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored columns of a state, by name."""
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}


def first_rows(size: int, filled: Tensor) -> Tensor | None:
    """Which of `size` places are in use when they are taken in order: bool [size], None for all."""
    import torch

    return None if int(filled) >= size else torch.arange(size, device=filled.device) < filled
