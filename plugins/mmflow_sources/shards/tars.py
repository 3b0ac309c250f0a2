"""Shards that are tar files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from mmflow_sources.access.network import NetworkError
from mmflow_sources.access.tar import Damaged, Member, members
from mmflow_sources.rows.grouped import GroupRows
from mmflow_sources.rows.kinds import FileKinds, kind_of
from mmflow_sources.rows.tars import alike, prefixed
from mmflow_sources.shards.files import FileShards
from mmflow_sources.shards.reader import HEAD, Row
from mmflow_sources.tabular import Streamable

NO_FILES: FileKinds = FileKinds({})


@dataclass(frozen=True)
class FilesRow(Row):
    """A sample of a tar shard: `cells` holds the bytes of its files by extension."""

    id: str = ""
    kinds: FileKinds = field(default=NO_FILES, repr=False)

    def cell(self, column: str) -> Any:
        return HeldRows([(self.id, self.cells)], self.kinds).cell(column)


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
    """Tar files: a sample is the files that share a name and stand together."""

    schema = None

    def __init__(self, source: Streamable, urls: Sequence[str], dot: Literal["first", "last"] = "first") -> None:
        super().__init__(source, urls)
        self.max_bytes, self.max_text = source.max_bytes, source.max_text
        self.dot: Literal["first", "last"] = dot
        begins = [self._begin(number) for number in range(min(2, len(urls)))]
        self.prefixed = len(begins) > 1 and alike(len(begins[0].keys() & begins[1].keys()), len(begins[1]))
        """True where shards number their samples alike."""
        self.kinds = FileKinds.told(begins[0].items(), source.chosen())
        for id, extensions in begins[0].items():
            for extension, reason in self.kinds.unread(extensions):
                self.left_out.add(f"{id}.{extension}", f"{reason} (of the first {len(begins[0])} samples)", "member")

    def columns(self, head: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        rows = HeldRows([(row.id, row.cells) for row in head], self.kinds)
        return rows.fields[1:], rows.names[1:]

    def shards(self) -> Sequence[str]:
        return self.files

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        name = self.files[number]
        key, files, wrong = "", {}, ""

        def row() -> tuple[str, Row]:
            id = prefixed(name, key) if self.prefixed else key
            fault = wrong or self.kinds.clash(files)
            return id, FilesRow(files, f"{name}, sample {id!r}", fault, id=id, kinds=self.kinds)

        try:
            with self.opened(number) as file:
                for member in members(file, name, dot=self.dot):
                    if member.id != key:
                        if files:
                            yield row()
                        key, files, wrong = member.id, {}, ""
                    wrong = wrong or member.wrong or self._too_large(member)
                    file.seek(member.offset)
                    files[member.extension] = file.read(member.size) if not wrong else b""
        except NetworkError:
            raise
        except (Damaged, OSError) as error:
            key, wrong = key or name, f"no file {name!r}" if isinstance(error, FileNotFoundError) else str(error)
            files = files or {"": b""}
        if files:
            yield row()

    def repeated(self, id: str) -> str:
        return (
            f"id {id!r} was there before: the data has it twice, or the files of a sample do not stand together "
            "(write the shard sorted by name, or read it without `stream`)"
        )

    def _too_large(self, member: Member) -> str:
        text = kind_of(member.extension) in ("caption", "label", "json")
        bound, most = ("max_text", self.max_text) if text else ("max_bytes", self.max_bytes)
        return f"{member.size} bytes in a file, more than `{bound}` ({most})" if member.size > most else ""

    def _begin(self, number: int) -> dict[str, list[str]]:
        """Extensions of the first samples of a shard, by their key, as far as it can be read."""
        found: dict[str, list[str]] = {}
        try:
            with self.opened(number) as file:
                listed = members(file, self.files[number], dot=self.dot, left_out=self.left_out if not number else None)
                for member in islice(listed, 8 * HEAD):
                    if member.id not in found and len(found) == HEAD:
                        break
                    found.setdefault(member.id, []).append(member.extension)
        except NetworkError:
            raise
        except (Damaged, OSError):
            pass
        return found
