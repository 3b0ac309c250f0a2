"""The rows of a source with random access, and the cells of lines and of Arrow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(Protocol):
    """The rows of one file. `broken` maps rows that cannot be read to the reason."""

    names: tuple[str, ...]
    """Columns that may be named."""
    fields: tuple[str, ...]
    """Those of them that are fields where the spec names none."""
    broken: dict[int, str]

    def __len__(self) -> int: ...

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The cells of a row; empty ones are None."""
        ...

    def column(self, name: str) -> Iterable[Any]:
        """All cells of a column, in order."""
        ...

    def where(self, index: int) -> str:
        """The place of a row in its file, in words."""
        ...


def told_once(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, which all differ; raises `ComponentError`."""
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise ComponentError(f"{name}: it has two columns named {twice!r}", found=twice)
    return tuple(columns)


def kind_of(name: str, format: str | None) -> str:
    """csv, tsv, jsonl, ndjson or parquet; raises `ComponentError` where a file is no table by its name."""
    kind = format or name.partition("?")[0].rpartition(".")[2].lower()
    if kind not in ("csv", "tsv", "jsonl", "ndjson", "parquet"):
        raise ComponentError(
            f"{name}: not a table by its name", found=name, expected="a .csv, .tsv, .jsonl or .parquet file",
            hint="or say which with `format:`",
        )  # fmt: skip
    return kind


def json_row(line: str | bytes) -> tuple[Mapping[str, Any], str]:
    """The object of a line, or an empty one and the fault of the line."""
    try:
        row = json.loads(line, object_pairs_hook=_once)
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} where an object belongs")
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON object: {error}"
    return row, ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys all differ; raises `ValueError`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def magnitude(values: pa.ChunkedArray) -> int:
    """The largest magnitude of whole numbers of Arrow, 0 for none."""
    import pyarrow.compute as pc

    found = pc.min_max(values).as_py()  # type: ignore[attr-defined]
    return max(abs(found["min"] or 0), abs(found["max"] or 0))


def cell(scalar: pa.Scalar) -> Any:
    """A value of Arrow as plain Python; lists of numbers as numpy arrays."""
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    kind = scalar.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = scalar.values  # type: ignore[attr-defined]
        if pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type):
            return values.to_numpy(zero_copy_only=False)
    return scalar.as_py()
