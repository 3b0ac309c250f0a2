"""Shards that are tables, or row groups of one."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import split_url
from mmflow_sources.access.network import NetworkError
from mmflow_sources.base import FileSource
from mmflow_sources.rows.base import cell, json_row, kind_of, told_once
from mmflow_sources.rows.csv_lines import CsvLines
from mmflow_sources.rows.parquet import check_groups
from mmflow_sources.shards.files import BLOCK, FileShards, buffered
from mmflow_sources.shards.reader import Row

READ_TOGETHER = 256
"""Rows of a Parquet file that are held as Arrow at a time."""


class TableShards(FileShards):
    """Tables: a CSV, JSONL or Parquet file is a shard; of a single Parquet file, each row group is one."""

    def __init__(self, source: FileSource, urls: Sequence[str], format: str | None) -> None:
        super().__init__(source, urls)
        self.max_ratio = source.max_ratio
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

    def columns(self, head: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        told = self.schema.names if self.schema is not None else dict.fromkeys(n for row in head for n in row.cells)
        names = told_once(self.files[0], list(told))
        return names, names

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
            # The rest is unknown: it counts as one row.
            wrong = f"no file {name!r}" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            yield f"{prefix}{index}", Row({}, f"{name}, row {index}", wrong)

    def _csv_rows(
        self, place: int, kind: str, columns: Collection[str] | None
    ) -> Iterator[tuple[Mapping[str, Any], int, str]]:
        with self.opened(place) as file:
            text = io.TextIOWrapper(buffered(file), encoding="utf-8-sig", newline="")
            lines = CsvLines(text, kind)
            _check_columns(columns, lines.names)
            for cells, line, wrong in lines.records():
                yield {n: c or None for n, c in zip(lines.names, cells, strict=False)}, line, wrong

    def _json(self, place: int) -> Iterator[tuple[Mapping[str, Any], int, str]]:
        with self.opened(place) as file:
            for line, raw in enumerate(buffered(file), start=1):
                if raw.strip():
                    found, wrong = json_row(raw)
                    yield found, line, wrong

    def _parquet(self, place: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.opened(place), buffer_size=BLOCK, pre_buffer=False)
            check_groups(file, self.files[place], self.max_ratio)
            return file
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
