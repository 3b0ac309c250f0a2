"""Rows of tar shards: members that share a name, read at their offsets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmflow_sources.access.files import Folder, split_url
from mmflow_sources.access.tar import Damaged, members
from mmflow_sources.left_out import Tally
from mmflow_sources.rows.grouped import GroupRows
from mmflow_sources.rows.kinds import FileKinds

Group = tuple[str, dict[str, Any]]


class TarRows(GroupRows):
    """Members of tar shards; the files of the last shards stay open."""

    OPEN = 8
    BLOCK = 2**17
    """Bytes that are fetched at a time over a network, where samples are read in any order."""

    def __init__(
        self, shards: list[str], groups: Sequence[Group], folders: Mapping[str, Folder], kinds: FileKinds,
        max_bytes: int, max_text: int,
    ) -> None:  # fmt: skip
        self.shards, self.folders = shards, folders
        self.max_bytes, self.max_text = max_bytes, max_text
        self._files: OrderedDict[int, Any] = OrderedDict()
        super().__init__(groups, kinds)

    def __getstate__(self) -> Mapping[str, Any]:
        return {**super().__getstate__(), "_files": OrderedDict()}

    @property
    def in_process(self) -> bool:
        return any(folder.in_process for folder in self.folders.values())

    def content(self, where: Any) -> bytes:
        return self._read(where, self.max_bytes, "max_bytes")

    def text(self, where: Any) -> bytes:
        return self._read(where, self.max_text, "max_text")

    def file(self, where: Any, name: str) -> Any:
        return {"bytes": self.content(where), "path": name}

    def where(self, index: int) -> str:
        id, files = self.groups[index]
        shard = next(iter(files.values()))[0] if files else 0
        return f"{split_url(self.shards[shard])[1]}, sample {id!r}"

    def _read(self, where: Any, most: int, bound: str) -> bytes:
        shard, offset, size = where
        if size > most:
            raise ValueError(f"{size} bytes in a file, more than `{bound}` ({most})")
        file = self._opened(shard)
        file.seek(offset)
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{split_url(self.shards[shard])[1]} ends in the middle of it")
        return data

    def _opened(self, shard: int) -> Any:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        parent, name = split_url(self.shards[shard])
        self._files[shard] = self.folders[parent].open(name, self.BLOCK)
        if len(self._files) > self.OPEN:
            self._files.popitem(last=False)[1].close()
        return self._files[shard]


def read_index(
    folder: Folder, name: str, number: int, dot: Literal["first", "last"], tally: Tally
) -> tuple[list[Group], dict[int, str]]:
    """The samples of a shard and their faults, by their place. The files of a sample need not stand together.

    The rest after a damaged place is unknown: it counts as one sample, the last or one of the shard's name.
    """
    groups: list[Group] = []
    latest: dict[str, int] = {}
    broken: dict[int, str] = {}
    try:
        with folder.open(name) as file:
            for member in members(file, name, dot=dot, left_out=tally):
                place = latest.get(member.id)
                # The same file again is a second sample with this id.
                if place is None or member.extension in groups[place][1]:
                    place = latest[member.id] = len(groups)
                    groups.append((member.id, {}))
                groups[place][1][member.extension] = (number, member.offset, member.size)
                if member.wrong:
                    broken[place] = member.wrong
    except (Damaged, FileNotFoundError) as error:
        if not groups:
            groups.append((name, {"": (number, 0, 0)}))
        missing = isinstance(error, FileNotFoundError)
        broken[len(groups) - 1] = f"no file {name!r} in {folder.url}" if missing else str(error)
    return groups, broken


def apart(groups: Sequence[Sequence[Group]], names: Sequence[str]) -> list[Group]:
    """The samples of all shards in one list; ids begin with the shard's name where shards number theirs alike."""
    first: dict[str, int] = {}
    for shard, found in enumerate(groups):
        for id, _ in found:
            first.setdefault(id, shard)
    shared = (alike(sum(first[id] != shard for id, _ in found), len(found)) for shard, found in enumerate(groups))
    if not any(shared):
        return [group for found in groups for group in found]
    return [(prefixed(name, id), files) for name, found in zip(names, groups, strict=True) for id, files in found]


def alike(shared: int, samples: int) -> bool:
    """Whether a shard numbers its samples as one before it does: most of its ids were there, not just a few."""
    return 2 * shared > samples


def prefixed(shard: str, id: str) -> str:
    """The id of a sample in shards that number their samples alike."""
    return f"{shard.removesuffix('.tar')}/{id}"
