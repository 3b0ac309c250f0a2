"""Rows of Parquet files, read by row group."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import UNFOLDED, Folder, check_unfolding
from mmflow_sources.rows.base import cell, magnitude, told_once

if TYPE_CHECKING:
    import pyarrow as pa


DICTIONARY = 64 * 2**20
"""Bytes of a column chunk from which on it is read as it is."""


def check_groups(file: Any, name: str, ratio: float) -> None:
    """Refuse a file whose row groups unfold from next to nothing; raises `ComponentError`."""
    metadata, schema = file.metadata, file.schema_arrow
    widths = [getattr(field.type, "bit_width", 64) / 8 if _is_flat(field.type) else 8 for field in schema]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        packed = sum(column.total_compressed_size for column in columns)
        unfolded = max(sum(c.total_uncompressed_size for c in columns), round(group.num_rows * sum(widths)))
        try:
            check_unfolding(f"{name}, row group {number}", packed, unfolded, ratio)
        except ValueError as error:
            raise ComponentError(str(error), found=name) from None


def repeated_texts(metadata: Any) -> list[str]:
    """Columns of text or bytes whose values may stand in a dictionary: read as such, each is held once."""
    found: dict[str, None] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            coded = any("DICTIONARY" in str(encoding) for encoding in column.encodings)
            large = column.total_uncompressed_size * group.num_rows > UNFOLDED
            if column.physical_type == "BYTE_ARRAY" and coded and large and "." not in column.path_in_schema:
                if column.total_uncompressed_size > DICTIONARY:
                    # Most values are beside the dictionary, which has a bound: they are as large as the file.
                    continue
                found[column.path_in_schema] = None
    return list(found)


def _is_flat(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_primitive(kind)


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
        self.names = self.fields = told_once(name, self.schema.names)
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

    def largest(self, name: str) -> int:
        """The largest magnitude in a column of whole numbers."""
        groups = range(len(self._starts) - 1)
        return max(
            (magnitude(self._opened().read_row_group(n, columns=[name]).column(name)) for n in groups), default=0
        )

    def where(self, index: int) -> str:
        return f"row {index}"

    def _opened(self) -> Any:
        if self._file is None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                file = self.folder.open(self.name)
                self._file = pq.ParquetFile(file)
                check_groups(self._file, self.name, self.folder.max_ratio)
                if repeated := repeated_texts(self._file.metadata):
                    file.seek(0)
                    self._file = pq.ParquetFile(file, read_dictionary=repeated)
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
