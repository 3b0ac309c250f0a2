"""Values of rows in Parquet: numbers, texts, lists and arrays of any shape, with the declared type of each column.

Vectors and other arrays of floats are lists of floats, which any program reads; other arrays (bytes of an image, masks)
are cells of bytes in numpy's format. Types lie in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.plugin.values import Json, RawValue, TensorType

if TYPE_CHECKING:
    import pyarrow as arrow
    from numpy.typing import DTypeLike
    from torch import Tensor

_TYPES = b"mmflow.types"


def write_rows(
    file: Path, ids: Sequence[str], columns: Mapping[str, Tensor | Sequence[RawValue]],
    types: Mapping[str, TensorType],
) -> None:  # fmt: skip
    """A value of each column for each of `ids`, None where absent. Raises `ValueError` for a column of other length."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    for name, values in columns.items():
        if len(values) != len(ids):
            raise ValueError(f"{len(values)} values of {name!r} for {len(ids)} ids")
    named = {"id": arrow.array(list(ids), arrow.string())}
    named |= {name: _to_arrow(values) for name, values in columns.items()}
    table = arrow.table(named)
    said = json.dumps({name: asdict(declared) for name, declared in types.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), _TYPES: said}), file)


class StoredRows:
    """An opened file of rows. It is read when a value is first asked for, in each process that it is sent to."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __getstate__(self) -> dict[str, Path]:
        return {"file": self.file}

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The declared types of the columns."""
        import pyarrow.parquet as parquet

        said = (parquet.read_schema(self.file).metadata or {}).get(_TYPES, b"{}")
        return {name: type_of_plain(plain) for name, plain in json.loads(said).items()}

    @cached_property
    def _table(self) -> arrow.Table:
        import pyarrow.parquet as parquet

        return parquet.read_table(self.file).combine_chunks()

    @cached_property
    def ids(self) -> list[str]:
        return self._table.column("id").to_pylist()

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id: place for place, id in enumerate(self.ids)}

    def names(self) -> list[str]:
        """The columns beside the ids."""
        import pyarrow.parquet as parquet

        return [name for name in parquet.read_schema(self.file).names if name != "id"]

    def place(self, id: str, near: int = -1) -> int | None:
        """The place of a row, looked for at `near` first; None where it is not there."""
        if 0 <= near < len(self.ids) and self.ids[near] == id:
            return near
        return self._places.get(id)

    def value(self, name: str, place: int) -> RawValue:
        """One value, None where absent: floats of a list as an array."""
        return _from_arrow(self._table.column(name)[place])

    def column(self, name: str) -> list[RawValue]:
        """All values, in the order of `ids`."""
        return [_from_arrow(cell) for cell in self._table.column(name)]


def type_of_plain(plain: Mapping[str, Json]) -> TensorType:
    """A declared type from what `asdict` made of it."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return TensorType(**fields)


def type_of_values(values: Tensor | Sequence[RawValue]) -> TensorType:
    """The type that values have by themselves: one number, a vector, a text a row; otherwise unknown."""
    import numpy as np

    shape = getattr(values, "shape", None)
    if shape is not None:
        floating = "float" in str(getattr(values, "dtype", ""))
        kind = "vector" if len(shape) > 1 else "number" if floating else "label"
        return TensorType(kind, size=tuple(int(n) for n in shape[1:]), dtype="float32" if floating else "int64")
    first = next((value for value in values if value is not None), None)
    if isinstance(first, str):
        return TensorType("text", dtype="str")
    if isinstance(first, bool | int):
        return TensorType("label", dtype="bool" if isinstance(first, bool) else "int64")
    if isinstance(first, float):
        return TensorType("number")
    if isinstance(first, np.ndarray) and first.ndim == 1:
        return TensorType("vector", size=(len(first),))
    return TensorType("unknown")


def _to_arrow(values: Tensor | Sequence[RawValue]) -> arrow.Array:
    import numpy as np
    import pyarrow as arrow
    import torch

    rows: np.ndarray | Sequence[RawValue]
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        rows = values.float().numpy() if values.is_floating_point() else values.numpy()
    else:
        rows = values
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        return arrow.array(rows)
    members: list[RawValue] = list(rows)
    arrays = [value for value in members if isinstance(value, np.ndarray)]
    if not arrays:
        return arrow.array([value.item() if isinstance(value, np.generic) else value for value in members])
    if all(value.dtype.kind == "f" for value in arrays) and len({value.ndim for value in arrays}) == 1:
        kind = arrow.float64() if any(value.dtype == np.float64 for value in arrays) else arrow.float32()
        for _ in range(arrays[0].ndim):
            kind = arrow.list_(kind)
        return arrow.array([value.tolist() if isinstance(value, np.ndarray) else value for value in members], kind)
    return arrow.array([None if value is None else _bytes_of(value) for value in members], arrow.binary())


def _bytes_of(value: RawValue) -> bytes:
    import numpy as np

    out = BytesIO()
    np.save(out, np.asarray(value), allow_pickle=False)
    return out.getvalue()


def _from_arrow(cell: arrow.Scalar) -> RawValue:
    import numpy as np
    import pyarrow as arrow

    value = cell.as_py()
    if isinstance(value, bytes):
        return np.load(BytesIO(value), allow_pickle=False)
    kind, depth = cell.type, 0
    while isinstance(kind, arrow.ListType):
        kind, depth = kind.value_type, depth + 1
    if value is None or not depth or not arrow.types.is_floating(kind):
        return value
    dtype = np.float64 if kind == arrow.float64() else np.float32
    return _arrays(value, dtype)


def _arrays(value: list[RawValue], dtype: DTypeLike) -> RawValue:
    """Lists of floats as one array; a list with absent members stays a list of them."""
    import numpy as np

    if any(member is None for member in value):
        return [None if member is None else _arrays(member, dtype) for member in value]
    return np.asarray(value, dtype=dtype)


__all__ = ["StoredRows", "type_of_plain", "type_of_values", "write_rows"]
