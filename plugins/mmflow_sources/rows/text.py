"""Rows of CSV and JSONL files, held in memory as text."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.rows.base import json_row
from mmflow_sources.rows.csv_lines import CsvLines


class CsvRows:
    """A file with a header line; cells are str, empty ones None."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        try:
            lines = CsvLines(io.StringIO(text, newline=""), kind)
        except ValueError as error:
            raise ComponentError(
                f"{name}: {error}", found=name, expected="a header line with the columns' names"
            ) from None
        self.names = self.fields = lines.names
        self.broken: dict[int, str] = {}
        self._lines: list[int] = []
        self._cells: list[list[str]] = []
        for cells, line, wrong in lines.records():
            if wrong:
                self.broken[len(self._cells)] = wrong
            self._lines.append(line)
            self._cells.append(cells)
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
    """One JSON object per line; columns that a line does not name are None there."""

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
        self.names = self.fields = tuple(names)

    def __len__(self) -> int:
        return len(self._objects)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        row = self._objects[index]
        return {column: row.get(column) for column in columns}

    def column(self, name: str) -> Iterable[Any]:
        return (row.get(name) for row in self._objects)

    def where(self, index: int) -> str:
        return f"line {self._lines[index]}"
