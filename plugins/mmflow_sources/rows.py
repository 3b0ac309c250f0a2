"""Rows of CSV, JSONL and Parquet files: random access to raw cells, and what is wrong with which line."""

from __future__ import annotations

import bisect
import csv
import io
import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmflow.plugin import ComponentError
from mmflow_sources.files import Folder

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
        """Where a row stands in its file, in words."""
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
    """What separates the cells of a CSV or TSV file with this header line."""
    return "\t" if kind == "tsv" else max(",;\t", key=header.count)


def misfit(cells: Sequence[str], names: Sequence[str]) -> str:
    """What is wrong with the cells of a line under a header; empty where they fit it."""
    return f"{len(cells)} cells where the header has {len(names)}" if len(cells) != len(names) else ""


def json_row(line: str | bytes) -> tuple[Mapping[str, Any], str]:
    """The object of a line, and what is wrong with it: then there is none."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} where an object belongs")
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON object: {error}"
    return row, ""


def read_rows(folder: Folder, name: str, format: str | None) -> Rows:
    """Open a table; raises `ComponentError` where it is missing or is no table."""
    kind = kind_of(name, format)
    try:
        if kind == "parquet":
            return ParquetRows(folder, name)
        text = folder.read(name).decode("utf-8-sig")
    except FileNotFoundError:
        raise ComponentError(f"no file {name!r} in {folder.url}", found=f"{folder.url}/{name}") from None
    except UnicodeDecodeError as error:
        raise ComponentError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}", found=name) from None
    except (OSError, ValueError) as error:
        raise ComponentError(f"{name} in {folder.url} cannot be read: {error}", found=name) from error
    return CsvRows(name, text, kind) if kind in ("csv", "tsv") else JsonRows(name, text)


class CsvRows:
    """A file with a header line; cells are str, empty ones None."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        delimiter = delimiter_of(kind, text.partition("\n")[0])
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        self.broken: dict[int, str] = {}
        self._lines: list[int] = []
        self._cells: list[list[str]] = []
        try:
            names = next(lines, None)
            if not names:
                raise ComponentError(f"{name} is empty", found=name, expected="a header line with the columns' names")
            self.names = tuple(column.strip() for column in names)
            twice = next((column for column in self.names if self.names.count(column) > 1), None)
            if twice is not None:
                raise ComponentError(f"{name} has two columns named {twice!r}", found=twice)
            for cells in lines:
                if not cells:
                    continue
                if wrong := misfit(cells, self.names):
                    self.broken[len(self._cells)] = wrong
                self._lines.append(lines.line_num)
                self._cells.append(cells)
        except csv.Error as error:
            raise ComponentError(f"{name}, line {lines.line_num}: {error}", found=name) from None
        self._places = {column: place for place, column in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self._cells)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        cells = self._cells[index]
        return {column: self._cell(cells, self._places[column]) for column in columns}

    def column(self, name: str) -> Iterable[Any]:
        place = self._places[name]
        return (self._cell(cells, place) for cells in self._cells)

    def where(self, index: int) -> str:
        return f"line {self._lines[index]}"

    @staticmethod
    def _cell(cells: Sequence[str], place: int) -> str | None:
        return (cells[place] or None) if place < len(cells) else None


class JsonRows:
    """One JSON object a line; columns that a line does not name are None there."""

    def __init__(self, name: str, text: str) -> None:
        self.broken: dict[int, str] = {}
        self._lines: list[int] = []
        self._objects: list[Mapping[str, Any]] = []
        names: dict[str, None] = {}
        for line, raw in enumerate(text.split("\n"), start=1):
            if not raw.strip():
                continue
            row, wrong = json_row(raw)
            if wrong:
                self.broken[len(self._objects)] = wrong
            names.update(dict.fromkeys(row))
            self._lines.append(line)
            self._objects.append(row)
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self._objects)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        row = self._objects[index]
        return {column: row.get(column) for column in columns}

    def column(self, name: str) -> Iterable[Any]:
        return (row.get(name) for row in self._objects)

    def where(self, index: int) -> str:
        return f"line {self._lines[index]}"


class ParquetRows:
    """Row groups are read when a row of theirs is wanted; the last ones stay, up to `KEPT` bytes."""

    KEPT = 256 * 2**20

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name
        self.broken: dict[int, str] = {}
        self._groups: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._file: Any = None
        metadata = self._opened().metadata
        self.schema = self._opened().schema_arrow
        self.names = tuple(self.schema.names)
        starts = [0]
        for group in range(metadata.num_row_groups):
            starts.append(starts[-1] + metadata.row_group(group).num_rows)
        self._starts = starts

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_file": None, "_groups": OrderedDict()}

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        group = bisect.bisect_right(self._starts, index) - 1
        table = self._group(group, tuple(sorted(columns)))
        place = index - self._starts[group]
        return {column: cell(table.column(column)[place]) for column in columns}

    def column(self, name: str) -> Iterable[Any]:
        for group in range(len(self._starts) - 1):
            for value in self._opened().read_row_group(group, columns=[name]).column(name):
                yield cell(value)

    def where(self, index: int) -> str:
        return f"row {index}"

    def _opened(self) -> Any:
        if self._file is None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                self._file = pq.ParquetFile(self.folder.open(self.name))
            except pa.ArrowException as error:
                raise ComponentError(f"{self.name} is not a Parquet file: {error}", found=self.name) from None
        return self._file

    def _group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        key = (group, columns)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        table = self._opened().read_row_group(group, columns=list(columns)).combine_chunks()
        self._groups[key] = table
        # Columns of one group are wanted together: that group stays, however large it is.
        while next(iter(self._groups))[0] != group and sum(kept.nbytes for kept in self._groups.values()) > self.KEPT:
            self._groups.popitem(last=False)
        return table


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
