"""Samples made of files that share a name: in folders, and in tar shards."""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field, field_validator

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.columns import LOOKED_AT
from mmflow_sources.decoding import looks_like_picture, looks_like_sound, looks_like_video
from mmflow_sources.files import Folder, split_url, version
from mmflow_sources.network import NetworkError
from mmflow_sources.patterns import expanded, fingerprint_of, is_pattern
from mmflow_sources.tabular import RowReader, Streamable, Tabular
from mmflow_sources.tar import Damaged, members


class GroupRows:
    """Rows whose cells are files of one name: `image`, `audio`, `video`, `caption` (.txt), `label`, keys of a .json.

    `groups` lists (id, {extension: where the file is}); `label` comes from a .cls file, or from `labels`.
    """

    def __init__(self, groups: Sequence[tuple[str, Mapping[str, Any]]], labels: Sequence[str] | None = None) -> None:
        self.groups, self.labels = groups, labels
        self.broken: dict[int, str] = {}
        self._sidecars: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        kinds = {kind_of(extension): None for _, files in groups for extension in files}
        names = [name for name in ("image", "audio", "video", "caption", "label") if name in kinds]
        if labels is not None and "label" not in names:
            names.append("label")
        keys: dict[str, None] = {}
        if "json" in kinds:
            for index in islice(range(len(groups)), LOOKED_AT):
                try:
                    keys.update(dict.fromkeys(self._json(index)))
                except NetworkError:
                    raise
                except (ValueError, OSError):
                    continue
        self.names = ("id", *names, *(key for key in keys if key not in names and key != "id"))

    def content(self, where: Any) -> bytes:
        """The bytes of a file of a group."""
        raise NotImplementedError

    def file(self, where: Any, name: str) -> Any:
        """What a cell holds for a picture or a sound: a path below the root, or its bytes."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.groups)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        return {column: self._cell(index, column) for column in columns}

    def column(self, name: str) -> Iterable[Any]:
        for index in range(len(self.groups)):
            try:
                yield self._cell(index, name)
            except NetworkError:
                raise
            except (ValueError, OSError):
                yield None

    def where(self, index: int) -> str:
        return f"sample {self.groups[index][0]!r}"

    def _cell(self, index: int, column: str) -> Any:
        id, files = self.groups[index]
        if column == "id":
            return id
        for extension, where in files.items():
            if kind_of(extension) == column:
                if column in ("image", "audio", "video"):
                    return self.file(where, f"{id}.{extension}")
                return self.content(where).decode("utf-8").strip()
        if column == "label" and self.labels is not None:
            return self.labels[index]
        return self._json(index).get(column)

    def _json(self, index: int) -> Mapping[str, Any]:
        """What the .json of a sample holds; those of the last samples are kept, since each column asks again."""
        where = self.groups[index][1].get("json")
        if where is None:
            return {}
        if index in self._sidecars:
            return self._sidecars[index]
        try:
            found = json.loads(self.content(where))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its .json is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"its .json holds a {type(found).__name__}, not an object")
        self._sidecars[index] = found
        if len(self._sidecars) > LOOKED_AT:
            self._sidecars.popitem(last=False)
        return found

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_sidecars": OrderedDict()}


def kind_of(extension: str) -> str:
    """The column that files with this extension make, or the extension itself."""
    name = f".{extension}"
    if looks_like_picture(name):
        return "image"
    if looks_like_sound(name):
        return "audio"
    if looks_like_video(name):
        return "video"
    return {"txt": "caption", "caption": "caption", "text": "caption", "cls": "label"}.get(extension.lower(), extension)


# --- folders ------------------------------------------------------------------------------------------


class FolderRows(GroupRows):
    """Files below a folder; a cell of a picture is its path."""

    def __init__(self, folder: Folder, groups: Any, labels: Any, parts: Sequence[Mapping[str, str]] = ()) -> None:
        self.folder, self.parts = folder, parts
        self.fingerprint: str | None = None
        super().__init__(groups, labels)
        self.names = tuple(dict.fromkeys((*self.names, *(name for part in parts for name in part))))

    def _cell(self, index: int, column: str) -> Any:
        if self.parts and column in self.parts[index]:
            return self.parts[index][column]
        return super()._cell(index, column)

    def content(self, where: Any) -> bytes:
        return self.folder.read(where)

    def file(self, where: Any, name: str) -> Any:
        return where


class FolderSource(Tabular, name="folder"):
    """Pictures, sounds and videos in a folder, on any filesystem of fsspec; files that share a name are one sample.

    `url` names the folder (`flowers`, `zip://::flowers.zip`), or ends with a pattern (`flowers/*.png`).

    Fields: `image`, `audio`, `video`, `caption` from a .txt file beside it, the keys of a .json file beside it, and
    `label`, the first folder of the path, where all files are in folders. With `pattern`, as in
    `"{speaker}/{label}_{take}"`, parts of the path are fields. Ids are paths without extension. `columns` chooses and
    renames, as in `table`, whose policy for bad samples it has.
    """

    example: ClassVar[str] = "data: {train: {use: folder, url: flowers/train}}"

    url: str = outside_identity(min_length=1)
    classes: tuple[str, ...] = Field((), description="folders that are classes, in the order of their numbers")
    pattern: str | None = Field(None, description="names parts of the path without extension: {NAME}_{OTHER}")

    @field_validator("pattern")
    @classmethod
    def _named_parts(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            path_pattern(pattern)
        return pattern

    def marks(self) -> tuple[str, ...]:
        return tuple(f"{name}\0{mark}" for name, mark in self._listing()[1].items())

    def load(self) -> RowReader:
        folder, names = self._listing()
        found: dict[str, dict[str, str]] = {}
        for name in names:
            stem, _, extension = name.rpartition(".")
            if stem and not posixpath.basename(stem).startswith("."):
                found.setdefault(stem, {})[extension.lower()] = name
        groups = [(stem, files) for stem, files in sorted(found.items()) if any(map(_is_data, files))]
        labels = None
        if self.classes:
            self._check_classes({stem.partition("/")[0] for stem, _ in groups if "/" in stem})
            groups = [(stem, files) for stem, files in groups if stem.partition("/")[0] in self.classes]
        if groups and all("/" in stem for stem, _ in groups):
            labels = [stem.partition("/")[0] for stem, _ in groups]
        if not groups:
            raise ComponentError(f"{self.url} holds no pictures, sounds or texts", found=self.url)
        parts, unlike = self._parts([stem for stem, _ in groups])
        rows = FolderRows(folder, groups, labels, parts)
        rows.broken.update(unlike)
        source = self
        if self.classes and labels is not None:
            column = {"column": "label", "modality": "label", "names": self.classes}
            columns = self.columns or {name: {} for name in rows.names if name != "id"}
            source = type(self).model_validate({**dict(self), "columns": {**columns, "label": column}})
        return RowReader(source, rows, folder, name=self.url, id_column="id")

    def fingerprint(self) -> Any:
        reader = self.open()
        rows = reader.rows
        assert isinstance(rows, FolderRows)
        names = sorted(name for _, files in rows.groups for name in files.values())
        # The reader is kept while the listing tells of no change: its files are hashed once.
        rows.fingerprint = rows.fingerprint or reader.root.fingerprint(names)
        return {"files": len(names), "content": rows.fingerprint}

    def _check_classes(self, folders: Collection[str]) -> None:
        """Refuse a class that has no folder where one that is not chosen is called almost so.

        Any other class may be without a folder: a test split need not have them all.
        """
        for name in self.classes:
            near = difflib.get_close_matches(name, sorted(set(folders) - set(self.classes)), n=1, cutoff=0.6)
            if name not in folders and near:
                raise ComponentError(
                    f"no folder of {self.url} is called {name!r}, as `classes` has it",
                    found=name, hint=f"did you mean {near[0]!r}?",
                )  # fmt: skip

    def _parts(self, stems: Sequence[str]) -> tuple[list[Mapping[str, str]], dict[int, str]]:
        """What `pattern` finds in each path, and what to say of the paths that are unlike it."""
        if self.pattern is None:
            return [], {}
        found = [path_pattern(self.pattern).fullmatch(stem) for stem in stems]
        if not any(found):
            raise ComponentError(
                f"no path in {self.url} is like the pattern {self.pattern!r}", found=stems[0], expected=self.pattern
            )
        unlike = {n: f"its path is not like {self.pattern!r}" for n, match in enumerate(found) if match is None}
        return [match.groupdict() if match else {} for match in found], unlike

    def _listing(self) -> tuple[Folder, dict[str, str]]:
        """The folder, and the names of its files with a mark of their version."""
        place, pattern = split_url(self.url) if is_pattern(self.url) else (self.url, None)
        if is_pattern(place):
            raise ComponentError(
                f"{self.url} has a pattern in the names of its folders", found=self.url, expected="one at its end",
                hint="`flowers/*.png` stands for files in folders below flowers, too",
            )  # fmt: skip
        folder = self.folder(place)
        web = self.url.startswith(("http://", "https://"))
        hint = "its server must list folders as pages; `table` and `webdataset` need no listing" if web else ""
        try:
            found = folder.find()
        except ComponentError:
            raise
        except (OSError, ValueError) as error:
            raise ComponentError(f"{self.url} cannot be listed: {error}", found=self.url, hint=hint) from error
        names = {name: version(info) for name, info in found.items() if pattern is None or fnmatchcase(name, pattern)}
        if not names:
            raise ComponentError(f"no folder with files at {self.url}", found=self.url, expected="a folder", hint=hint)
        return folder, names


def path_pattern(pattern: str) -> re.Pattern[str]:
    """`{label}/{speaker}_{take}` as an expression whose named parts hold no slash; raises `ValueError`."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    names = pieces[1::2]
    if not names or any("{" in piece or "}" in piece for piece in pieces[::2]):
        raise ValueError(f"{pattern!r} names no parts: write {{NAME}} where a part of the path stands")
    wrong = next((name for name in names if not name.isidentifier() or name == "id" or names.count(name) > 1), None)
    if wrong is not None:
        raise ValueError(f"{pattern!r}: {wrong!r} is no name of a field, or stands there twice")
    parts = (re.escape(piece) if place % 2 == 0 else f"(?P<{piece}>[^/]+?)" for place, piece in enumerate(pieces))
    return re.compile("".join(parts))


def _is_data(extension: str) -> bool:
    return kind_of(extension) in ("image", "audio", "video", "caption")


# --- tar shards ---------------------------------------------------------------------------------------


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
            from mmflow_sources.streams import StreamReader, TarShards

            return StreamReader(self, TarShards(self, shards), self.folder(split_url(shards[0])[0]), name="webdataset")
        groups: list[tuple[str, dict[str, Any]]] = []
        broken: dict[int, str] = {}
        folders = {parent: self.folder(parent) for parent in dict.fromkeys(split_url(url)[0] for url in shards)}
        for number, url in enumerate(shards):
            parent, name = split_url(url)
            broken |= _read_index(folders[parent], name, number, groups)
        if len(broken) == len(groups):
            raise ComponentError(next(iter(broken.values()), "no samples"), found=self.url[0])
        rows = TarRows(shards, groups, folders)
        rows.broken.update(broken)
        return RowReader(self, rows, next(iter(folders.values())), name="webdataset", id_column="id")

    def fingerprint(self) -> Any:
        return fingerprint_of(self, self.shards())


def _read_index(folder: Folder, name: str, number: int, groups: list[tuple[str, dict[str, Any]]]) -> dict[int, str]:
    """Append the groups of a shard; returns what is wrong, by the place of a group.

    Of what follows a damaged place nothing can be known: it counts as one sample, the last or one of the shard's name.
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
