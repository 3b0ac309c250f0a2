"""The reader of rows that come from front to back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, Protocol

from mmflow.plugin import ComponentError, LeftOut
from mmflow_sources.access.files import Folder
from mmflow_sources.columns import TableColumn
from mmflow_sources.names import shown
from mmflow_sources.tabular import Cells, Streamable, column_of

HEAD = 100
"""Rows that are looked at to tell the columns."""
REMEMBERED = 200_000
"""Ids of a shard among which one that was there before is noticed."""


@dataclass(frozen=True)
class Row:
    """A row as it lies in its shard: its cells, its place, and its fault, if any."""

    cells: Mapping[str, Any]
    where: str
    wrong: str = ""

    def cell(self, column: str) -> Any:
        return self.cells.get(column)


class ShardRows(Protocol):
    """The rows of several shards. Picklable."""

    schema: Any
    """That of Arrow, where there is one."""

    @property
    def left_out(self) -> Iterable[LeftOut]:
        """Parts that belong to no sample, as far as the first rows tell."""
        ...

    @property
    def in_process(self) -> bool: ...

    def columns(self, head: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns that are fields by themselves, and all that may be named; of the first rows where no file tells."""
        ...

    def repeated(self, id: str) -> str:
        """The fault of a row whose id was there before."""
        ...

    def shards(self) -> Sequence[str]: ...

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        """Numbers (or names) and rows of a shard, in order, with these cells of them (all where None).

        A row that cannot be read is `wrong`. Raises `NetworkError` where a server does not answer.
        """
        ...


class StreamReader:
    """Samples made of the rows of shards; a `ShardReader`."""

    def __init__(self, source: Streamable, rows: ShardRows, root: Folder, *, name: str,
        id: str | Literal[False] | None = None,
    ) -> None:  # fmt: skip
        self.source, self.rows, self.root, self.name = source, rows, root, name
        head = self._head()
        own, names = rows.columns(head)
        self.id_column = None if id is False else id or ("id" if "id" in names else None)
        if self.id_column is not None and self.id_column not in names:
            raise ComponentError(
                f"{name} has no column {self.id_column!r} for ids", found=self.id_column,
                expected=f"one of: {', '.join(names)}",
            )  # fmt: skip
        declared = source.columns
        if declared is None:
            declared = {name: TableColumn.model_validate({}) for name in own if name and name != self.id_column}

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
                id = "" if cell is None else shown(str(cell))
                if not id:
                    id, row = name, replace(row, wrong=f"column {self.id_column!r} holds no id")
            if id in seen:
                id, row = f"{id}#{name}", replace(row, wrong=row.wrong or self.rows.repeated(id))
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

    def left_out(self) -> Sequence[LeftOut]:
        return tuple(self.rows.left_out)

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
