"""The source `table`: a CSV, JSONL or Parquet file whose columns hold text, labels, numbers and paths of files."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import outside_identity
from mmflow_sources.tabular import Streamable

if TYPE_CHECKING:
    from mmflow_sources.access.files import Folder


class Table(Streamable, name="table"):
    """A CSV, JSONL or Parquet file on any filesystem of fsspec (a path, `memory://`, `zip://`, `https://`, ...).

    `columns` maps fields to columns, `{image: path, caption: text}`, or in full `{label: {column: species, modality:
    label, names: [cat, dog]}}`; without it every column is a field. The modality of a field (image, audio, video,
    text, label, labels, number, vector, series) is told by its values where it is not declared: names of image files
    are images, a column named `label` or `class` holds classes. Paths are relative to `root`, which is the table's
    folder; they may not leave it. Empty cells are absent. CSV and JSONL are held in memory as text, Parquet is read by
    row group.

    With `stream`, rows are read from front to back and nothing is held: `url` may then stand for many files
    (`{00..99}`, `*`), each of which is a shard, as is each row group of a single Parquet file. Class names must then be
    declared in `columns`.

    `bad` is the policy for a sample that cannot be read (a missing or broken file, a wrong cell, an id that was
    there before): `error` stops, `skip` leaves it out and counts it, `quarantine` also lists it in a file.
    """

    example: ClassVar[str] = "data: {train: {use: table, url: photos/train.csv, columns: {image: file, caption: text}}}"

    url: str = outside_identity(min_length=1)
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = Field(None, description="told by the name where unset")
    id: str | Literal[False] | None = Field(
        None, description="column of ids, or false for row numbers; a column named id where there is one"
    )
    root: str | None = outside_identity(None, description="folder (URL) that paths of files begin in")

    def urls(self) -> list[str]:
        """The files; several only where they are streamed."""
        from mmflow_sources.access.patterns import expanded

        return expanded(self.folder, [self.url], "tables") if self.stream else [self.url]

    def marks(self) -> tuple[str, ...]:
        from mmflow_sources.access.patterns import is_pattern

        urls = self.urls()
        many = not self.stream and (is_pattern(self.url) or "{" in self.url)
        expected = "one table, or `stream: true` for many files" if many else "a table"
        return (*urls[1:], self.version_of(urls[0], expected))

    def load(self) -> Any:
        from mmflow_sources.access.files import split_url

        urls = self.urls()
        parent, name = split_url(urls[0])
        folder = self.folder(parent)
        root = self.folder(self.root) if self.root else folder
        if self.stream:
            from mmflow_sources.shards.reader import StreamReader
            from mmflow_sources.shards.tables import TableShards

            return StreamReader(self, TableShards(self, urls, self.format), root, name=name, id=self.id)
        from mmflow_sources.rows.tables import read_rows
        from mmflow_sources.tabular import RowReader

        rows = read_rows(folder, name, self.format, self.max_bytes)
        id_column = None if self.id is False else self.id or ("id" if "id" in rows.names else None)
        return RowReader(self, rows, root, name=name, id_column=id_column)

    def fingerprint(self) -> Any:
        from mmflow_sources.access.patterns import fingerprint_of

        content = {"table": fingerprint_of(self.folder, self.urls())}
        if not self.stream and (names := (reader := self.open()).files()):
            content["files"] = reader.root.fingerprint(names)
        return content

    def files(self) -> Iterable[tuple[Folder, Collection[str]]]:
        from mmflow_sources.access.patterns import by_folder

        yield from by_folder(self.folder, self.urls())
        if not self.stream and (names := (reader := self.open()).files()):
            yield reader.root, names
