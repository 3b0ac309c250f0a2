"""Rows of tar shards: members that share a name, read at their offsets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from mmflow_sources.access.files import Folder, split_url
from mmflow_sources.access.tar import Damaged, members
from mmflow_sources.rows.grouped import GroupRows


class TarRows(GroupRows):
    """Members of tar shards, read at their offsets; the files of the last shards stay open."""

    OPEN = 8
    BLOCK = 2**17
    """Bytes that are fetched at a time over a network, where samples are read in any order."""

    def __init__(self, shards: list[str], groups: Any, folders: Mapping[str, Folder]) -> None:
        self.shards, self.folders = shards, folders
        self._files: OrderedDict[int, Any] = OrderedDict()
        super().__init__(groups)

    def __getstate__(self) -> Mapping[str, Any]:
        return {**super().__getstate__(), "_files": OrderedDict()}

    @property
    def in_process(self) -> bool:
        return any(folder.in_process for folder in self.folders.values())

    def content(self, where: Any) -> bytes:
        shard, offset, size = where
        file = self._opened(shard)
        file.seek(offset)
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{split_url(self.shards[shard])[1]} ends in the middle of it")
        return data

    def file(self, where: Any, name: str) -> Any:
        return {"bytes": self.content(where), "path": name}

    def where(self, index: int) -> str:
        id, files = self.groups[index]
        shard = next(iter(files.values()))[0] if files else 0
        return f"{split_url(self.shards[shard])[1]}, sample {id!r}"

    def _opened(self, shard: int) -> Any:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        parent, name = split_url(self.shards[shard])
        self._files[shard] = self.folders[parent].open(name, self.BLOCK)
        if len(self._files) > self.OPEN:
            self._files.popitem(last=False)[1].close()
        return self._files[shard]


def read_index(folder: Folder, name: str, number: int, groups: list[tuple[str, dict[str, Any]]]) -> dict[int, str]:
    """Append the groups of a shard; returns their faults, by the place of a group.

    The rest after a damaged place is unknown: it counts as one sample, the last or one of the shard's name.
    """
    began = len(groups)
    broken: dict[int, str] = {}
    try:
        with folder.open(name) as file:
            for member in members(file, name):
                if len(groups) == began or groups[-1][0] != member.id:
                    groups.append((member.id, {}))
                groups[-1][1][member.extension] = (number, member.offset, member.size)
                if member.wrong:
                    broken[len(groups) - 1] = member.wrong
    except (Damaged, FileNotFoundError) as error:
        if len(groups) == began:
            groups.append((name, {"": (number, 0, 0)}))
        missing = isinstance(error, FileNotFoundError)
        broken[len(groups) - 1] = f"no file {name!r} in {folder.url}" if missing else str(error)
    return broken
