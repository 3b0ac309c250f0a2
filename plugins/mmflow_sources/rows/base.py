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


def kind_of(name: str, format: str | None) -> str:
    """csv, tsv, jsonl, ndjson or parquet; raises `ComponentError` where a file is no table by its name."""
    kind = format or name.partition("?")[0].rpartition(".")[2].lower()
    if kind not in ("csv", "tsv", "jsonl", "ndjson", "parquet"):
        raise ComponentError(
            f"{name}: not a table by its name", found=name, expected="a .csv, .tsv, .jsonl or .parquet file",
            hint="or say which with `format:`",
        )  # fmt: skip
    return kind


def delimiter_of(kind: str, header: str) -> str:
    """The separator of a CSV or TSV file with this header line."""
    return "\t" if kind == "tsv" else max(",;\t", key=header.count)


def misfit(cells: Sequence[str], names: Sequence[str]) -> str:
    """The fault of a line's cells under a header; empty where they fit it."""
    return f"{len(cells)} cells where the header has {len(names)}" if len(cells) != len(names) else ""


def json_row(line: str | bytes) -> tuple[Mapping[str, Any], str]:
    """The object of a line, or an empty one and the fault of the line."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} where an object belongs")
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON object: {error}"
    return row, ""


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
