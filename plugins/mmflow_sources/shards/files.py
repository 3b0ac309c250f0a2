"""Shards that are files at URLs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from mmflow_sources.access.files import shard_names, split_url
from mmflow_sources.base import FileSource
from mmflow_sources.left_out import Tally

BLOCK = 2**22
"""Bytes that are fetched at a time over a network."""


class FileShards:
    """Files at URLs, each of which is a shard, or several."""

    def __init__(self, source: FileSource, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self.folders = {parent: source.folder(parent) for parent, _ in map(split_url, urls)}
        self.files = shard_names(urls)
        self.left_out = Tally()

    def repeated(self, id: str) -> str:
        return f"id {id!r} was there before"

    @property
    def in_process(self) -> bool:
        return any(folder.in_process for folder in self.folders.values())

    def opened(self, place: int) -> Any:
        parent, name = split_url(self.urls[place])
        return self.folders[parent].open(name, BLOCK)


def buffered(file: Any) -> Any:
    return file if hasattr(file, "read1") else io.BufferedReader(file, BLOCK)
