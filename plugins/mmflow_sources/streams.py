"""Rows without random access: shards of tables, tar files and data sets, read from front to back."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from mmflow.plugin import ComponentError
from mmflow_sources.base import FileSource
from mmflow_sources.columns import TableColumn
from mmflow_sources.files import Folder, split_url
from mmflow_sources.groups import GroupRows
from mmflow_sources.network import NetworkError
from mmflow_sources.rows import cell, delimiter_of, json_row, kind_of, misfit
from mmflow_sources.tabular import Cells, Streamable, column_of
from mmflow_sources.tar import Damaged, members

HEAD = 100
"""Rows that are looked at to tell what the columns are."""
REMEMBERED = 200_000
"""Ids of a shard among which one that was there before is noticed."""
BLOCK = 2**22
"""Bytes that are fetched at a time over a network."""
READ_TOGETHER = 256
"""Rows of a Parquet file that are held as Arrow at a time."""


@dataclass(frozen=True)
class Row:
    """A row as it lies in its shard: its cells, where it stands, and what is wrong with it, if anything."""

    cells: Mapping[str, Any]
    where: str
    wrong: str = ""

    def cell(self, column: str) -> Any:
        return self.cells.get(column)


@dataclass(frozen=True)
class FilesRow(Row):
    """A sample of a tar shard: `cells` holds the bytes of its files by extension."""

    id: str = ""

    def cell(self, column: str) -> Any:
        return HeldRows([(self.id, self.cells)]).cell(column)


class HeldRows(GroupRows):
    """Samples made of files whose bytes are at hand."""

    def content(self, where: Any) -> bytes:
        return where

    def file(self, where: Any, name: str) -> Any:
        return {"bytes": where, "path": name}

    def cell(self, column: str) -> Any:
        """That of the only sample."""
        return self._cell(0, column)


class ShardRows(Protocol):
    """The rows of several shards. Picklable."""

    schema: Any
    """That of Arrow, where there is one."""

    @property
    def in_process(self) -> bool: ...

    def columns(self, head: Sequence[Any]) -> tuple[str, ...]:
        """Names of the columns, told by the first rows where no file states them."""
        ...

    def shards(self) -> Sequence[str]: ...

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        """Numbers (or names) and rows of a shard, in order, with these cells of them (all where None).

        What cannot be read is a row that is wrong. Raises `NetworkError` where a server does not answer.
        """
        ...


class StreamReader:
    """Samples made of the rows of shards; a `ShardReader`."""

    def __init__(self, source: Streamable, rows: ShardRows, root: Folder, *, name: str, id: str | None = None) -> None:
        self.source, self.rows, self.root, self.name = source, rows, root, name
        head = self._head()
        names = rows.columns(head)
        self.id_column = id or ("id" if "id" in names else None)
        if self.id_column is not None and self.id_column not in names:
            raise ComponentError(
                f"{name} has no column {self.id_column!r} for ids", found=self.id_column,
                expected=f"one of: {', '.join(names)}",
            )  # fmt: skip
        declared = source.columns
        if declared is None:
            declared = {name: TableColumn.model_validate({}) for name in names if name and name != self.id_column}

        def cells(column: str) -> Iterator[Any]:
            for row in head:
                try:
                    yield row.cell(column)
                except ValueError:
                    yield None

        columns = {
            field: column_of(field, column, cells, table=name, names=names, schema=rows.schema, whole=False)
            for field, column in declared.items()
        }
        self.cells = Cells(source, columns, root)
        self.types = self.cells.types

    @property
    def in_process(self) -> bool:
        return self.root.in_process or self.rows.in_process

    def shards(self) -> Sequence[str]:
        return self.rows.shards()

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, Row]]:
        columns = {column.name for field, column in self.cells.columns.items() if field in fields}
        if self.id_column is not None:
            columns.add(self.id_column)
        seen: dict[str, None] = {}
        for name, row in self.rows.rows(number, columns):
            id = name
            if self.id_column is not None and not row.wrong:
                cell = row.cell(self.id_column)
                id = "" if cell is None else str(cell)
                if not id:
                    id, row = name, replace(row, wrong=f"column {self.id_column!r} holds no id")
            if id in seen:
                id, row = f"{id}#{name}", replace(row, wrong=f"id {id!r} was there before")
            seen[id] = None
            if len(seen) > REMEMBERED:
                del seen[next(iter(seen))]
            yield id, row

    def decode(self, id: str, raw: Row, fields: Collection[str]) -> Mapping[str, Any]:
        if raw.wrong:
            raise self.source.refused(f"{raw.where}: {raw.wrong}")
        return self.cells.sample(id, fields, raw.cell, lambda: raw.where)

    def static(self) -> Mapping[str, Any]:
        return {}

    def _head(self) -> list[Row]:
        """The first rows that can be read; their columns are those of the data."""
        head: list[Row] = []
        for number in range(len(self.rows.shards())):
            for _, row in islice(self.rows.rows(number, None), HEAD):
                if not row.wrong:
                    head.append(row)
                elif self.source.bad == "error":
                    raise ComponentError(f"{row.where}: {row.wrong}", found=self.name)
            if head:
                break
        if not head:
            raise ComponentError(f"{self.name} has no rows that can be read", found=self.name)
        return head


class _Files:
    """Files at URLs, each of which is a shard, or several."""

    def __init__(self, source: FileSource, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        places = [split_url(url) for url in urls]
        self.folders = {parent: source.folder(parent) for parent, _ in places}
        files = [name for _, name in places]
        unique = len(set(files)) == len(files)
        self.files = files if unique else [f"{place}/{name}" for place, name in enumerate(files)]

    @property
    def in_process(self) -> bool:
        return any(folder.in_process for folder in self.folders.values())

    def opened(self, place: int) -> Any:
        parent, name = split_url(self.urls[place])
        return self.folders[parent].open(name, BLOCK)


class TarShards(_Files):
    """Tar files: a sample is the files that share a name."""

    schema = None

    def __init__(self, source: Streamable, urls: Sequence[str]) -> None:
        super().__init__(source, urls)
        self.most = source.max_bytes

    def columns(self, head: Sequence[Any]) -> tuple[str, ...]:
        return HeldRows([(row.id, row.cells) for row in head]).names[1:]

    def shards(self) -> Sequence[str]:
        return self.files

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        name = self.files[number]
        id, files, wrong = "", {}, ""

        def row() -> tuple[str, Row]:
            return id, FilesRow(files, f"{name}, sample {id!r}", wrong, id)

        try:
            with self.opened(number) as file:
                for member in members(file, name):
                    if member.id != id:
                        if files:
                            yield row()
                        id, files, wrong = member.id, {}, ""
                    large = f"{member.size} bytes in a file, more than `max_bytes` ({self.most})"
                    wrong = wrong or member.wrong or (large if member.size > self.most else "")
                    file.seek(member.offset)
                    files[member.extension] = file.read(member.size) if not wrong else b""
        except NetworkError:
            raise
        except (Damaged, OSError) as error:
            id, wrong = id or name, f"no file {name!r}" if isinstance(error, FileNotFoundError) else str(error)
            files = files or {"": b""}
        if files:
            yield row()


class TableShards(_Files):
    """Tables: a CSV, JSONL or Parquet file is a shard; of a single Parquet file, each row group is one."""

    def __init__(self, source: FileSource, urls: Sequence[str], format: str | None) -> None:
        super().__init__(source, urls)
        self.kinds = [kind_of(split_url(url)[1], format) for url in urls]
        self.schema: Any = None
        self.groups: list[int] = []
        """First rows of the row groups of a single Parquet file, and the number of its rows."""
        if self.kinds[0] == "parquet":
            with self._parquet(0) as file:
                self.schema = file.schema_arrow
                if len(urls) == 1:
                    self.groups = [0]
                    for group in range(file.metadata.num_row_groups):
                        self.groups.append(self.groups[-1] + file.metadata.row_group(group).num_rows)

    def columns(self, head: Sequence[Any]) -> tuple[str, ...]:
        if self.schema is not None:
            return tuple(self.schema.names)
        return tuple(dict.fromkeys(name for row in head for name in row.cells))

    def shards(self) -> Sequence[str]:
        return self.files if not self.groups else [f"{self.files[0]}#{n}" for n in range(len(self.groups) - 1)]

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        place = 0 if self.groups else number
        name, kind = self.files[place], self.kinds[place]
        prefix = "" if len(self.urls) == 1 else f"{name}:"
        index = self.groups[number] if self.groups else 0
        try:
            if kind == "parquet":
                found = self._parquet_rows(place, number if self.groups else None, columns)
            else:
                found = self._csv_rows(place, kind, columns) if "sv" in kind else self._json(place)
            for cells, line, wrong in found:
                where = f"{name}, {f'line {line}' if line else f'row {index}'}"
                yield f"{prefix}{index}", Row(cells, where, wrong)
                index += 1
        except NetworkError:
            raise
        except (ComponentError, ValueError, OSError, csv.Error) as error:
            # Of what follows nothing can be known: it counts as one row.
            wrong = f"no file {name!r}" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            yield f"{prefix}{index}", Row({}, f"{name}, row {index}", wrong)

    def _csv_rows(
        self, place: int, kind: str, columns: Collection[str] | None
    ) -> Iterator[tuple[Mapping[str, Any], int, str]]:
        with self.opened(place) as file:
            text = io.TextIOWrapper(_buffered(file), encoding="utf-8-sig", newline="")
            header = text.readline()
            if not header.strip():
                raise ValueError("it is empty: a header line with the columns' names is missing")
            delimiter = delimiter_of(kind, header)
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
            if len(set(names)) < len(names):
                raise ValueError("two columns have one name")
            _check_columns(columns, names)
            lines = csv.reader(text, delimiter=delimiter)
            for cells in lines:
                if cells:
                    found = {n: c or None for n, c in zip(names, cells, strict=False)}
                    yield found, lines.line_num + 1, misfit(cells, names)

    def _json(self, place: int) -> Iterator[tuple[Mapping[str, Any], int, str]]:
        with self.opened(place) as file:
            for line, raw in enumerate(_buffered(file), start=1):
                if raw.strip():
                    found, wrong = json_row(raw)
                    yield found, line, wrong

    def _parquet(self, place: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.opened(place), buffer_size=BLOCK, pre_buffer=False)
        except pa.ArrowException as error:
            raise ComponentError(f"{self.files[place]} is no Parquet file: {error}", found=self.urls[place]) from None
        except FileNotFoundError:
            raise ComponentError(f"no file {self.files[place]!r}", found=self.urls[place]) from None

    def _parquet_rows(
        self, place: int, group: int | None, columns: Collection[str] | None
    ) -> Iterator[tuple[Mapping[str, Any], int, str]]:
        with self._parquet(place) as file:
            _check_columns(columns, file.schema_arrow.names)
            wanted = sorted(columns) if columns is not None else None
            groups = None if group is None else [group]
            for batch in file.iter_batches(READ_TOGETHER, row_groups=groups, columns=wanted):
                names = batch.schema.names
                for row in range(batch.num_rows):
                    yield {n: cell(batch.column(p)[row]) for p, n in enumerate(names)}, 0, ""


def _check_columns(wanted: Collection[str] | None, names: Sequence[str]) -> None:
    """A file that states its columns has those of the others; raises `ValueError`."""
    missing = next((name for name in sorted(wanted or ()) if name not in names), None)
    if missing is not None:
        raise ValueError(f"it has no column {missing!r} among {', '.join(names)}")


class HubShards:
    """A data set of the `datasets` library: ranges of rows of one on disk, the shards of one from the hub."""

    in_process = False
    RANGE = 1000
    """Rows of a shard of a data set on disk."""

    def __init__(self, dataset: Any) -> None:
        import datasets

        from mmflow_sources.hub import undecoded

        self.on_disk = isinstance(dataset, datasets.Dataset)
        features = dataset.features or datasets.Features()
        self.dataset = undecoded(dataset)
        self.schema = features.arrow_schema if features else None
        self.count = -(-len(dataset) // self.RANGE) if self.on_disk else dataset.num_shards

    def columns(self, head: Sequence[Any]) -> tuple[str, ...]:
        return tuple(self.dataset.features or head[0].cells)

    def shards(self) -> Sequence[str]:
        return [str(number) for number in range(self.count)]

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        dataset, start, prefix = self.dataset, 0, ""
        if self.on_disk:
            start = number * self.RANGE
            dataset = dataset.select(range(start, min(start + self.RANGE, len(dataset))))
        elif self.count > 1:
            dataset, prefix = dataset.shard(num_shards=self.count, index=number), f"{number}:"
        if columns:
            dataset = dataset.select_columns(sorted(columns))
        for index, cells in enumerate(dataset, start=start):
            yield f"{prefix}{index}", Row(cells, f"shard {number}, row {index}")


def _buffered(file: Any) -> Any:
    return file if hasattr(file, "read1") else io.BufferedReader(file, BLOCK)
