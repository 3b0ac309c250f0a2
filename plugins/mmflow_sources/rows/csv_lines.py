"""The records of CSV text with their lines and faults, such as a quote that swallows what follows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain


class CsvLines:
    """The header of CSV text, whose first line that is not blank it is, and the records below.

    Raises `ValueError` where there is no header, or two columns have one name.
    """

    def __init__(self, lines: Iterable[str], kind: str) -> None:
        self._lines = iter(lines)
        self.header_line, header = 0, ""
        for header in self._lines:
            self.header_line += 1
            if header.strip():
                break
        if not header.strip():
            raise ValueError("it is empty: a header line with the columns' names is missing")
        # The separator is that of the first line, in which a quote may go on to the next.
        self.delimiter = "\t" if kind == "tsv" else max(",;\t", key=header.count)
        self._left = chain([header], self._lines)
        self._raw: list[str] = []
        self._reader = csv.reader(self._recorded(), delimiter=self.delimiter)
        try:
            self.names = tuple(name.strip() for name in next(self._reader))
        except csv.Error as error:
            raise ValueError(f"its header cannot be read: {error}") from None
        if fault := self._swallowed(self.header_line):
            raise ValueError(fault)
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"it has two columns named {twice!r}")

    def records(self) -> Iterator[tuple[list[str], int, str]]:
        """The cells of each record, the line in which it begins, and its fault; blank lines are left out."""
        line = self.header_line + len(self._raw)
        while True:
            self._raw.clear()
            fault = ""
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells, fault = [""], str(error)
            if cells:
                yield cells, line, self._swallowed(line) or fault or misfit(cells, self.names)
            line += len(self._raw)

    def _recorded(self) -> Iterator[str]:
        """The lines left, each noted in `_raw` as it is read."""
        for line in self._left:
            self._raw.append(line)
            yield line

    def _swallowed(self, line: int) -> str:
        """The fault of the record just read, which begins in `line`, where a quote holds more than a cell."""
        if len(self._raw) == 1 and self._raw[0].count('"') % 2 == 0:
            return ""
        return open_quote("".join(self._raw), self.delimiter, line)


def open_quote(record: str, delimiter: str, line: int) -> str:
    """The fault of a record in which a quote is never closed, or closed lines later in the middle of a cell."""
    start, plain, quoted, closing = range(4)
    state, opened = start, line
    for character in record:
        if state == quoted:
            state = closing if character == '"' else quoted
        elif state == closing and character == '"':
            state = quoted
        elif character in (delimiter, "\n", "\r"):
            state = start
        elif state == start and character == '"':
            state, opened = quoted, line
        elif state == closing and line > opened:
            return f"a quote opens in line {opened} and closes in line {line}, in the middle of a cell"
        else:
            state = plain
        line += character == "\n"
    if state != quoted:
        return ""
    return f"a quote opens in line {opened} and is never closed: it holds all that follows"


def misfit(cells: Sequence[str], names: Sequence[str]) -> str:
    """The fault of a record's cells under a header; empty where they fit it."""
    return f"{len(cells)} cells where the header has {len(names)}" if len(cells) != len(names) else ""
