"""Shards that are tar files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmflow_sources.access.network import NetworkError
from mmflow_sources.access.tar import Damaged, members
from mmflow_sources.rows.grouped import GroupRows
from mmflow_sources.shards.files import FileShards
from mmflow_sources.shards.reader import Row
from mmflow_sources.tabular import Streamable


@dataclass(frozen=True)
class FilesRow(Row):
    """A sample of a tar shard: `cells` holds the bytes of its files by extension."""

    id: str = ""

    def cell(self, column: str) -> Any:
        return HeldRows([(self.id, self.cells)]).cell(column)


class HeldRows(GroupRows):
    """Samples made of files whose bytes are at hand."""

    def content(self, where: Any) -> bytes:
        return where

    def file(self, where: Any, name: str) -> Any:
        return {"bytes": where, "path": name}

    def cell(self, column: str) -> Any:
        """That of the only sample."""
        return self._cell(0, column)


class TarShards(FileShards):
    """Tar files: a sample is the files that share a name."""

    schema = None

    def __init__(self, source: Streamable, urls: Sequence[str]) -> None:
        super().__init__(source, urls)
        self.most = source.max_bytes

    def columns(self, head: Sequence[Any]) -> tuple[str, ...]:
        return HeldRows([(row.id, row.cells) for row in head]).names[1:]

    def shards(self) -> Sequence[str]:
        return self.files

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        name = self.files[number]
        id, files, wrong = "", {}, ""

        def row() -> tuple[str, Row]:
            return id, FilesRow(files, f"{name}, sample {id!r}", wrong, id)

        try:
            with self.opened(number) as file:
                for member in members(file, name):
                    if member.id != id:
                        if files:
                            yield row()
                        id, files, wrong = member.id, {}, ""
                    large = f"{member.size} bytes in a file, more than `max_bytes` ({self.most})"
                    wrong = wrong or member.wrong or (large if member.size > self.most else "")
                    file.seek(member.offset)
                    files[member.extension] = file.read(member.size) if not wrong else b""
        except NetworkError:
            raise
        except (Damaged, OSError) as error:
            id, wrong = id or name, f"no file {name!r}" if isinstance(error, FileNotFoundError) else str(error)
            files = files or {"": b""}
        if files:
            yield row()
