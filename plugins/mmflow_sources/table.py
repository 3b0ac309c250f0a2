"""The source `table`: a CSV, JSONL or Parquet file whose columns hold text, labels, numbers and paths of files."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import outside_identity
from mmflow_sources.tabular import RowReader, Tabular


class Table(Tabular, name="table"):
    """A CSV, JSONL or Parquet file on any filesystem of fsspec (a path, `memory://`, `zip://`, `https://`, ...).

    `columns` maps fields to columns, `{image: path, caption: text}`, or in full `{label: {column: species, modality:
    label, names: [cat, dog]}}`; without it every column is a field. What a field is (image, audio, video, text, label,
    labels, number, vector, series) is told by its values where it is not said: names of picture files are pictures, a
    column named `label` or `class` holds classes. Paths are relative to `root`, which is the table's folder; they may
    not leave it. Empty cells are absent. CSV and JSONL are held in memory as text, Parquet is read by row group.

    `bad` says what happens to a sample that cannot be read (a missing or broken file, a wrong cell, an id that was
    there before): `error` stops, `skip` leaves it out and counts it, `quarantine` also lists it in a file.
    """

    example: ClassVar[str] = "data: {train: {use: table, url: photos/train.csv, columns: {image: file, caption: text}}}"

    url: str = outside_identity(min_length=1)
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = Field(None, description="told by the name where unset")
    id: str | None = Field(None, description="column of ids; a column named id where there is one, else row numbers")
    root: str | None = outside_identity(None, description="folder (URL) that paths of files begin in")

    def marks(self) -> tuple[str, ...]:
        return (self.version_of(self.url, "a table"),)

    def load(self) -> RowReader:
        from mmflow_sources.files import split_url
        from mmflow_sources.rows import read_rows

        parent, name = split_url(self.url)
        folder = self.folder(parent)
        rows = read_rows(folder, name, self.format)
        id_column = self.id or ("id" if "id" in rows.names else None)
        root = self.folder(self.root) if self.root else folder
        return RowReader(self, rows, root, name=name, id_column=id_column)

    def fingerprint(self) -> Any:
        from mmflow_sources.files import split_url

        parent, name = split_url(self.url)
        reader = self.open()
        content = {"table": self.folder(parent).fingerprint([name])}
        if names := reader.files():
            content["files"] = reader.root.fingerprint(names)
        return content
