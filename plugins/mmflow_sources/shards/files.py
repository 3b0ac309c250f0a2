"""Shards that are files at URLs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from mmflow_sources.access.files import split_url
from mmflow_sources.base import FileSource

BLOCK = 2**22
"""Bytes that are fetched at a time over a network."""


class FileShards:
    """Files at URLs, each of which is a shard, or several."""

    def __init__(self, source: FileSource, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        places = [split_url(url) for url in urls]
        self.folders = {parent: source.folder(parent) for parent, _ in places}
        files = [name for _, name in places]
        unique = len(set(files)) == len(files)
        self.files = files if unique else [f"{place}/{name}" for place, name in enumerate(files)]

    @property
    def in_process(self) -> bool:
        return any(folder.in_process for folder in self.folders.values())

    def opened(self, place: int) -> Any:
        parent, name = split_url(self.urls[place])
        return self.folders[parent].open(name, BLOCK)


def buffered(file: Any) -> Any:
    return file if hasattr(file, "read1") else io.BufferedReader(file, BLOCK)
