"""The source `webdataset`: tar shards in the layout of WebDataset."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.access.files import shard_names, split_url
from mmflow_sources.access.patterns import by_folder, expanded, fingerprint_of
from mmflow_sources.left_out import Tally
from mmflow_sources.rows.kinds import FileKinds
from mmflow_sources.rows.tars import Group, TarRows, apart, read_index
from mmflow_sources.tabular import RowReader, Streamable

if TYPE_CHECKING:
    from mmflow_sources.access.files import Folder


class WebDataset(Streamable, name="webdataset"):
    """Tar shards in the layout of WebDataset (Aizman et al., 2019): files that share a name are one sample.

    `url` is one or several URLs, with ranges `{000..012}`, choices `{a,b}` and `*`. Members are read at their offsets,
    so that an epoch is shuffled over all shards and resumes at any batch; opening reads the headers of every shard
    once. Shards must not be compressed. Where shards number their samples alike, ids begin with the shard's name.

    Fields: `image`, `audio`, `video`, `caption` (.txt), `label` (.cls) and the keys of a .json. `columns` chooses and
    renames, as in `table`, whose policy for bad samples it has; it may name extensions, `{depth: depth.png}`.

    With `stream`, no header is read beforehand: shards are read from front to back, as many at a time as `stream` says,
    and mixed in buffers. Class names must then be declared in `columns`.
    """

    example: ClassVar[str] = 'data: {train: {use: webdataset, url: "shards/train-{000..099}.tar"}}'

    url: tuple[str, ...] = outside_identity(min_length=1)
    extension: Literal["first", "last"] = Field(
        "first", description="the dot of a name at which its extension begins: the first, as in WebDataset, or the last"
    )

    @field_validator("url", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    def shards(self) -> list[str]:
        """URLs of all shards, in order."""
        return expanded(self.folder, self.url, "tar files")

    def marks(self) -> tuple[str, ...]:
        shards = self.shards()
        asked = shards[:1] if self.stream else shards
        return (*shards, *(self.version_of(url, "a tar file") for url in asked))

    def load(self) -> Any:
        shards = self.shards()
        if self.stream:
            from mmflow_sources.shards.reader import StreamReader
            from mmflow_sources.shards.tars import TarShards

            root = self.folder(split_url(shards[0])[0])
            return StreamReader(self, TarShards(self, shards, self.extension), root, name="webdataset")
        found: list[list[Group]] = []
        broken: dict[int, str] = {}
        tally = Tally()
        folders = {parent: self.folder(parent) for parent in dict.fromkeys(split_url(url)[0] for url in shards)}
        for number, url in enumerate(shards):
            parent, name = split_url(url)
            before = sum(map(len, found))
            groups, faults = read_index(folders[parent], name, number, self.extension, tally)
            found.append(groups)
            broken |= {before + place: fault for place, fault in faults.items()}
        samples = apart(found, shard_names(shards))
        if len(broken) == len(samples):
            raise ComponentError(next(iter(broken.values()), "no samples"), found=self.url[0])
        kinds = FileKinds.told(samples, self.chosen())
        for id, files in samples:
            for extension, reason in kinds.unread(files):
                tally.add(f"{id}.{extension}", reason, "member")
        rows = TarRows(shards, samples, folders, kinds, self.max_bytes, self.max_text)
        rows.broken.update(broken)
        root = next(iter(folders.values()))
        return RowReader(self, rows, root, name="webdataset", id_column="id", left_out=tally)

    def fingerprint(self) -> Any:
        return fingerprint_of(self.folder, self.shards())

    def files(self) -> Iterable[tuple[Folder, Collection[str]]]:
        return by_folder(self.folder, self.shards())
