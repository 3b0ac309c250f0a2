"""The source `webdataset`: tar shards in the layout of WebDataset."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.access.files import split_url
from mmflow_sources.access.patterns import expanded, fingerprint_of
from mmflow_sources.rows.tars import TarRows, read_index
from mmflow_sources.tabular import RowReader, Streamable


class WebDataset(Streamable, name="webdataset"):
    """Tar shards in the layout of WebDataset (Aizman et al., 2019): files that share a name are one sample.

    `url` is one or several URLs, with ranges `{000..012}`, choices `{a,b}` and `*`. Members are read at their offsets,
    so that an epoch is shuffled over all shards and resumes at any batch; opening reads the headers of every shard
    once. Shards must not be compressed. Fields: `image`, `audio`, `video`, `caption` (.txt), `label` (.cls) and the
    keys of a .json. `columns` chooses and renames, as in `table`, whose policy for bad samples it has.

    With `stream`, no header is read beforehand: shards are read from front to back, as many at a time as `stream` says,
    and mixed in buffers. Class names must then be declared in `columns`.
    """

    example: ClassVar[str] = 'data: {train: {use: webdataset, url: "shards/train-{000..099}.tar"}}'

    url: tuple[str, ...] = outside_identity(min_length=1)

    @field_validator("url", mode="before")
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    def shards(self) -> list[str]:
        """URLs of all shards, in order."""
        return expanded(self, self.url, "tar files")

    def marks(self) -> tuple[str, ...]:
        shards = self.shards()
        asked = shards[:1] if self.stream else shards
        return (*shards, *(self.version_of(url, "a tar file") for url in asked))

    def load(self) -> Any:
        shards = self.shards()
        if self.stream:
            from mmflow_sources.shards.reader import StreamReader
            from mmflow_sources.shards.tars import TarShards

            return StreamReader(self, TarShards(self, shards), self.folder(split_url(shards[0])[0]), name="webdataset")
        groups: list[tuple[str, dict[str, Any]]] = []
        broken: dict[int, str] = {}
        folders = {parent: self.folder(parent) for parent in dict.fromkeys(split_url(url)[0] for url in shards)}
        for number, url in enumerate(shards):
            parent, name = split_url(url)
            broken |= read_index(folders[parent], name, number, groups)
        if len(broken) == len(groups):
            raise ComponentError(next(iter(broken.values()), "no samples"), found=self.url[0])
        rows = TarRows(shards, groups, folders)
        rows.broken.update(broken)
        return RowReader(self, rows, next(iter(folders.values())), name="webdataset", id_column="id")

    def fingerprint(self) -> Any:
        return fingerprint_of(self, self.shards())
