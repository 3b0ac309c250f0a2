"""What sources of rows share: fields made of columns, a policy for bad samples, one reader for all."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mmflow.plugin import ComponentError, Source, TensorType, outside_identity
from mmflow_sources.columns import Column, TableColumn
from mmflow_sources.files import Folder
from mmflow_sources.rows import Rows

Policy = Literal["error", "skip", "quarantine"]


def _column(raw: Any) -> Any:
    return {"column": raw} if isinstance(raw, str) else raw


class Tabular(Source):
    """Base of `table`, `folder` and `webdataset`: write `marks` and `load`.

    `bad` says what happens to a sample that cannot be read (a missing or broken file, a wrong cell, an id that was
    there before): `error` stops, `skip` leaves it out and counts it, `quarantine` also lists it in a file.
    """

    columns: dict[str, Annotated[TableColumn, BeforeValidator(_column)]] | None = None
    bad: Policy = "error"
    quarantine: str | None = outside_identity(None, description="file (URL) that lists the samples left out")
    max_pixels: int = Field(64_000_000, ge=1, description="largest picture that is decoded")

    @model_validator(mode="after")
    def _place_of_quarantine(self) -> Tabular:
        if self.bad == "quarantine" and not self.quarantine:
            raise ValueError("bad: quarantine needs `quarantine:`, the file that lists the samples left out")
        return self

    def marks(self) -> tuple[str, ...]:
        """What changes when the content does, cheaply found: an opened source is kept while it stays the same."""
        raise NotImplementedError

    def load(self) -> RowReader:
        """Read the listing or the table itself; raises `ComponentError`."""
        raise NotImplementedError

    def fields(self) -> Mapping[str, TensorType]:
        return self.open().types

    def open(self) -> RowReader:
        return _kept(type(self), self.model_dump_json(), self.marks())


class RowReader:
    """Samples made of rows. Files that cells name are read one by one, below `root`."""

    def __init__(self, source: Tabular, rows: Rows, root: Folder, *, name: str, id_column: str | None = None) -> None:
        self.source, self.rows, self.root, self.name = source, rows, root, name
        if not len(rows):
            raise ComponentError(f"{name} has no rows", found=name)
        declared = source.columns
        if declared is None:
            declared = {name: TableColumn.model_validate({}) for name in rows.names if name and name != id_column}
        self.columns = {field: self._column(field, column) for field, column in declared.items()}
        self.types = {"id": TensorType("id"), **{field: column.type() for field, column in self.columns.items()}}
        self._ids, self._bad_ids = self._collect_ids(id_column)
        self._places: dict[str, int] | None = None
        if source.bad == "error":
            for index in (*rows.broken, *self._bad_ids)[:1]:
                raise ComponentError(f"{self._at(index)}: {rows.broken.get(index) or self._bad_ids[index]}")

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
        wrong = self.rows.broken.get(index) or self._bad_ids.get(index)
        if wrong:
            raise self._refused(f"{self._at(index)}: {wrong}")
        wanted = [column for field, column in self.columns.items() if fields is None or field in fields]
        sample: dict[str, Any] = {"id": self.id(index)}
        if not wanted:
            return sample
        for column in wanted:
            try:
                cell = self.rows.row(index, (column.name,))[column.name]
                sample[column.field] = self._file(column, cell) if column.in_files else column.value(cell)
            except (ValueError, OSError) as error:
                raise self._refused(f"{self._at(index)}, column {column.name!r}: {error}") from error
        return sample

    def static(self) -> Mapping[str, Any]:
        return {}

    def files(self) -> list[str]:
        """Paths that the rows name, as they stand there."""
        found: list[str] = []
        for column in self.columns.values():
            if column.in_files:
                for cell in self.rows.column(column.name):
                    found.extend(
                        name for name in (cell if column.several and cell else [cell]) if isinstance(name, str)
                    )
        return found

    def _column(self, field: str, declared: TableColumn) -> Column:
        name = declared.column or field
        if field == "id":
            raise ComponentError("the field `id` is the sample's id", hint="name its column with `id:`")
        if name not in self.rows.names:
            import difflib

            close = difflib.get_close_matches(name, self.rows.names, n=1)
            raise ComponentError(
                f"{self.name} has no column {name!r}", found=name, expected=f"one of: {', '.join(self.rows.names)}",
                hint=f"did you mean {close[0]!r}?" if close else "",
            )  # fmt: skip
        broken = self.rows.broken
        cells = (cell for index, cell in enumerate(self.rows.column(name)) if index not in broken)
        return Column(field, declared, cells, self._names_in_schema(name))

    def _names_in_schema(self, column: str) -> tuple[str, ...]:
        """Class names that a Parquet file of the `datasets` library carries in its metadata."""
        metadata = getattr(getattr(self.rows, "schema", None), "metadata", None) or {}
        try:
            features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
            feature = features[column]
            return tuple(feature["names"]) if feature.get("_type") == "ClassLabel" else ()
        except (KeyError, TypeError, ValueError):
            return ()

    def _collect_ids(self, column: str | None) -> tuple[list[str] | None, dict[int, str]]:
        if column is None:
            return None, {}
        if column not in self.rows.names:
            raise ComponentError(
                f"{self.name} has no column {column!r} for ids", found=column,
                expected=f"one of: {', '.join(self.rows.names)}",
            )  # fmt: skip
        ids: list[str] = []
        bad: dict[int, str] = {}
        first: dict[str, int] = {}
        for index, cell in enumerate(self.rows.column(column)):
            id = "" if cell is None else str(cell)
            if not id:
                bad[index] = f"column {column!r} holds no id"
            elif id in first:
                bad[index] = f"id {id!r} was there before, at {self.rows.where(first[id])}"
            else:
                first[id] = index
            ids.append(id if index not in bad else f"{id}#{index}")
        return ids, bad

    def _file(self, column: Column, cell: Any) -> Any:
        if cell is None or (isinstance(cell, (str, list)) and not cell):
            return column.value(None)
        if column.several:
            return [self._decode(column, member) for member in cell]
        return self._decode(column, cell)

    def _decode(self, column: Column, cell: Any) -> Any:
        from mmflow_sources.decoding import decode_picture, decode_sound, decode_video

        data, name = cell, ""
        if isinstance(cell, Mapping):
            data, name = cell.get("bytes"), str(cell.get("path") or "")
            cell = data if data is not None else name
        if isinstance(cell, str):
            name = cell
            try:
                data = self.root.read(cell)
            except FileNotFoundError:
                raise ValueError(f"no file {cell!r} in {self.root.url}") from None
            except IsADirectoryError:
                raise ValueError(f"{cell!r} is a folder") from None
        if not isinstance(data, bytes):
            raise ValueError(f"{str(cell)[:60]!r} is no file")
        try:
            if column.modality == "audio":
                return decode_sound(data, rate=column.rate)
            if column.modality == "video":
                return decode_video(data, frames=column.frames, max_pixels=self.source.max_pixels)
            return decode_picture(data, max_pixels=self.source.max_pixels)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from error.__cause__

    def _at(self, index: int) -> str:
        return f"{self.name}, {self.rows.where(index)}"

    def _refused(self, message: str) -> Exception:
        from mmflow.data.samples import SampleError, SkippedSample

        if self.source.bad == "error":
            return SampleError(message)
        return SkippedSample(message, self.source.quarantine if self.source.bad == "quarantine" else None)


@lru_cache(maxsize=8)
def _kept(source: type[Tabular], declaration: str, marks: tuple[str, ...]) -> RowReader:
    fields = json.loads(declaration)
    del fields["use"]
    return source.model_validate(fields).load()
