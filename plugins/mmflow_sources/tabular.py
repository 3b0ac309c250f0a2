"""The base of sources of rows: fields made of columns, files decoded, one reader for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from posixpath import splitext
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mmflow.plugin import ComponentError, LeftOut, Streaming, TensorType
from mmflow_sources.access.files import Folder, without_query
from mmflow_sources.access.network import NetworkError
from mmflow_sources.base import FileSource, told_apart
from mmflow_sources.columns import Column, Stated, TableColumn
from mmflow_sources.left_out import Tally
from mmflow_sources.names import shown
from mmflow_sources.rows.base import Rows


def _column(raw: Any) -> Any:
    return {"column": raw} if isinstance(raw, str) else raw


class Tabular(FileSource):
    """Base of the sources whose samples are rows of cells: write `marks` and `load`."""

    columns: (
        dict[str, Annotated[TableColumn, BeforeValidator(_column, json_schema_input_type=str | TableColumn)]] | None
    ) = None
    max_pixels: int = Field(64_000_000, ge=1, le=10**12, description="largest image that is decoded")
    max_seconds: float = Field(3600, gt=0, description="longest sound that is decoded")
    max_bytes: int = Field(
        2**30, ge=1, le=2**50, description="largest file that is read, of a sample or a table held as text"
    )
    max_text: int = Field(2**20, ge=1, le=2**40, description="largest .txt, .cls or .json file of a sample, in bytes")

    def chosen(self) -> tuple[str, ...]:
        """Columns that the spec names."""
        return tuple(column.column or field for field, column in (self.columns or {}).items())


class Streamable(Tabular):
    """Base of the sources of rows that can also be read from front to back."""

    stream: bool | Streaming = Field(
        False, description="read shards from front to back, without an index; {partitions, open, buffer, samples}"
    )

    def streaming(self) -> Streaming | None:
        if isinstance(self.stream, Streaming):
            return self.stream
        return Streaming.model_validate({}) if self.stream else None


class Cells:
    """From the cells of a row to the fields of a sample. Files that cells name are read below `root`."""

    def __init__(self, source: Tabular, columns: Mapping[str, Column], root: Folder) -> None:
        self.source, self.columns, self.root = source, columns, root
        self.types = {"id": TensorType("id"), **{field: column.type() for field, column in columns.items()}}

    def sample(
        self, id: str, fields: Collection[str] | None, cell: Callable[[str], Any], at: Callable[[], str]
    ) -> Mapping[str, Any]:
        """All fields, or `fields`; `cell` gives that of a column. Raises `SampleError`, by policy `SkippedSample`."""
        from mmflow.plugin import SampleError

        sample: dict[str, Any] = {"id": id}
        for field, column in self.columns.items():
            if fields is not None and field not in fields:
                continue
            try:
                found = cell(column.name)
                sample[field] = self._file(column, found) if column.in_files else column.value(found)
            except NetworkError as error:
                raise SampleError(f"{at()}, column {column.name!r}: {error}") from error
            except (ValueError, OSError) as error:
                raise self.source.refused(f"{at()}, column {column.name!r}: {error}") from error
        return sample

    def _file(self, column: Column, cell: Any) -> Any:
        if cell is None or (isinstance(cell, (str, list)) and not cell):
            return column.value(None)
        if column.several:
            members = cell if isinstance(cell, (list, tuple)) else [cell]
            return [None if member is None else self._decode(column, member) for member in members]
        return self._decode(column, cell)

    def _decode(self, column: Column, cell: Any) -> Any:
        from mmflow_sources.decoding.images import decode_image
        from mmflow_sources.decoding.sounds import decode_sound
        from mmflow_sources.decoding.videos import decode_video

        data, name = cell, ""
        if isinstance(cell, Mapping):
            data, name = cell.get("bytes"), str(cell.get("path") or "")
            cell = data if data is not None else name
        if isinstance(cell, str):
            name = cell
            try:
                data = self.root.read(cell, self.source.max_bytes)
            except FileNotFoundError:
                raise ValueError(f"no file {cell!r} in {self.root.url}{_meant(cell, self.root)}") from None
            except IsADirectoryError:
                raise ValueError(f"{cell!r} is a folder") from None
        if not isinstance(data, bytes):
            raise ValueError(f"{str(cell)[:60]!r} is no file")
        try:
            if column.modality == "audio":
                return decode_sound(data, rate=column.rate, max_seconds=self.source.max_seconds)
            if column.modality == "video":
                return decode_video(data, frames=column.frames, max_pixels=self.source.max_pixels)
            return decode_image(data, max_pixels=self.source.max_pixels)
        except ValueError as error:
            raise ValueError(f"{shown(name)}: {error}" if name else str(error)) from error.__cause__


def column_of(
    field: str, declared: TableColumn, cells: Callable[[str], Iterable[Any]], *, table: str, names: Sequence[str],
    schema: Any = None, largest: Callable[[str], int] | None = None, whole: bool = True,
) -> Column:  # fmt: skip
    """A field of a table with the columns `names`; `cells` gives those of a column, all or the first ones (`whole`)."""
    name = declared.column or field
    if field == "id":
        raise ComponentError("the field `id` is the sample's id", hint="name its column with `id:`")
    if name not in names:
        import difflib

        close = difflib.get_close_matches(name, names, n=1)
        raise ComponentError(
            f"{table} has no column {name!r}", found=name, expected=f"one of: {', '.join(names)}",
            hint=f"did you mean {close[0]!r}?" if close else "",
        )  # fmt: skip
    return Column(field, declared, cells(name), _stated(schema, name, largest), whole)


def _stated(schema: Any, column: str, largest: Callable[[str], int] | None) -> Stated | None:
    """Facts of a column in an Arrow schema, with the class names that the `datasets` library keeps there."""
    if schema is None:
        return None
    import pyarrow as pa

    kind = schema.field(column).type
    integral = pa.types.is_integer(kind) or (False if pa.types.is_floating(kind) else None)
    found = None if largest is None else partial(largest, column)
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[column]
        feature = feature.get("feature") or feature
        return Stated(tuple(feature["names"]) if feature.get("_type") == "ClassLabel" else (), integral, found)
    except (KeyError, TypeError, ValueError):
        return Stated((), integral, found)


class RowReader:
    """Samples made of rows, in any order."""

    def __init__(
        self, source: Tabular, rows: Rows, root: Folder, *, name: str, id_column: str | None = None,
        left_out: Tally | None = None,
    ) -> None:  # fmt: skip
        self.source, self.rows, self.root, self.name = source, rows, root, without_query(name)
        if not len(rows):
            raise ComponentError(f"{name} has no rows", found=name)
        self._tally = left_out or Tally()
        declared = source.columns
        if declared is None:
            declared = {name: TableColumn.model_validate({}) for name in rows.fields if name and name != id_column}
            for place, column in enumerate(rows.fields):
                if not column:
                    self._tally.add(f"number {place + 1}", "without a name", "column")
        self.columns = {field: self._column(field, column) for field, column in declared.items()}
        self.cells = Cells(source, self.columns, root)
        self.types = self.cells.types
        self._ids, self._bad_ids = self._collect_ids(id_column)
        self._places: dict[str, int] | None = None
        if source.bad == "error":
            for index in (*rows.broken, *self._bad_ids)[:1]:
                raise ComponentError(
                    self._wrong(index), hint="" if index in rows.broken else self._other_ids(id_column)
                )

    @property
    def in_process(self) -> bool:
        return self.root.in_process or bool(getattr(self.rows, "in_process", False))

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        return str(index) if self._ids is None else self._ids[index]

    def index(self, id: str) -> int:
        if self._places is None:
            self._places = {self.id(index): index for index in range(len(self))}
        return self._places[id]

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        """Sample `index` with all fields, or `fields`; raises `SampleError`, or `SkippedSample` by policy."""
        if index in self.rows.broken or index in self._bad_ids:
            raise self.source.refused(self._wrong(index))
        row = self.rows.row
        return self.cells.sample(
            self.id(index), fields, lambda name: row(index, (name,))[name], lambda: self._at(index)
        )  # fmt: skip

    def static(self) -> Mapping[str, Any]:
        return {}

    def left_out(self) -> Sequence[LeftOut]:
        """Files, members and columns that belong to no sample."""
        return tuple(self._tally)

    def files(self) -> list[str]:
        """Paths that the rows name, as they stand there."""
        return [name for field in self.columns for _, name in self._named(field)]

    def incomplete(self, fields: Collection[str]) -> int | None:
        """The first row that names a file in one of `fields` which is not there; None where there is none."""
        named = [pair for field in fields if field in self.columns for pair in self._named(field)]
        absent = self.root.absent(name for _, name in named) if named else set[str]()
        return min((index for index, name in named if name in absent), default=None)

    def _named(self, field: str) -> Iterator[tuple[int, str]]:
        """Rows and the paths that they name in a field."""
        column = self.columns[field]
        if column.in_files:
            for index, cell in enumerate(self.rows.column(column.name)):
                members = cell if isinstance(cell, (list, tuple)) else [cell]
                yield from ((index, name) for name in members if isinstance(name, str))

    def _column(self, field: str, declared: TableColumn) -> Column:
        rows = self.rows

        def cells(name: str) -> Iterable[Any]:
            return (cell for index, cell in enumerate(rows.column(name)) if index not in rows.broken)

        return column_of(
            field, declared, cells, table=self.name, names=rows.names, schema=getattr(rows, "schema", None),
            largest=getattr(rows, "largest", None),
        )  # fmt: skip

    def _collect_ids(self, column: str | None) -> tuple[list[str] | None, dict[int, str]]:
        if column is None:
            return None, {}
        if column not in self.rows.names:
            raise ComponentError(
                f"{self.name} has no column {column!r} for ids", found=column,
                expected=f"one of: {', '.join(self.rows.names)}",
            )  # fmt: skip
        ids = ["" if cell is None else shown(str(cell)) for cell in self.rows.column(column)]
        return told_apart(ids, self.rows.where)

    def _other_ids(self, column: str | None) -> str:
        """A way out where the column of ids repeats them."""
        if column is None or "id" not in type(self.source).model_fields:
            return ""
        for name in self.rows.names:
            cells = [str(cell) for cell in self.rows.column(name) if isinstance(cell, (str, int))]
            if name and name != column and len(cells) == len(self.rows) == len(set(cells)):
                return f"`id: {name}` takes ids from a column without repeats, `id: false` takes row numbers"
        return "`id: false` takes row numbers as ids"

    def _wrong(self, index: int) -> str:
        if index in self.rows.broken:
            return f"{self._at(index)}: {self.rows.broken[index]}"
        return f"{self.name}, {self._bad_ids[index]}"

    def _at(self, index: int) -> str:
        return f"{self.name}, {self.rows.where(index)}"


def _meant(name: str, root: Folder) -> str:
    """What a missing file on this machine may be called in fact, as the end of a message; empty where nothing is.

    Some names are tried, no folder is listed: there may be very many files, all of them missing.
    """
    if not root.on_disk:
        return ""
    straight = name.replace("\\", "/")
    stem, extension = splitext(straight)
    endings = (extension, extension.lower(), extension.upper(), extension.title(), ".jpg", ".jpeg", ".png")
    for tried in dict.fromkeys([*(stem + ending for ending in endings), straight.lower()]):
        try:
            if tried != name and root.info(tried):
                return f"; did you mean {tried!r}?"
        except (OSError, ValueError):
            continue
    return "; paths are written with / and begin in `root`" if straight != name else ""
