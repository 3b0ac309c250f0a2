"""Rows of Parquet files, read by row group."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import Folder
from mmflow_sources.rows.base import cell

if TYPE_CHECKING:
    import pyarrow as pa


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
