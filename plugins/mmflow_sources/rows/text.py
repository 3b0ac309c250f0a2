"""Rows of CSV and JSONL files, held in memory as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.rows.base import delimiter_of, json_row, misfit


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
