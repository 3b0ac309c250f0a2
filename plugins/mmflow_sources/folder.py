"""The source `folder`: images, sounds, videos and texts in a folder."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import Field, field_validator

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.access.files import Folder, split_url, version
from mmflow_sources.access.patterns import is_pattern
from mmflow_sources.columns import ClassName
from mmflow_sources.left_out import Tally
from mmflow_sources.names import hidden, shown
from mmflow_sources.rows.grouped import GroupRows
from mmflow_sources.rows.kinds import MEDIA, FileKinds, kind_of
from mmflow_sources.rows.path_parts import PathPattern
from mmflow_sources.tabular import RowReader, Tabular

README = re.compile(r"(readme|licen[cs]e|copying|notice|changelog|changes|authors|citation|about)\b", re.IGNORECASE)
"""Names of texts about the data, which are no captions."""


class FolderRows(GroupRows):
    """Files below a folder; a cell of an image is its path."""

    def __init__(
        self, folder: Folder, groups: Any, kinds: FileKinds, labels: Any, max_text: int,
        parts: Sequence[Mapping[str, str]] = (),
    ) -> None:  # fmt: skip
        self.folder, self.parts, self.max_text = folder, parts, max_text
        self.fingerprint: str | None = None
        super().__init__(groups, kinds, labels)
        named = tuple(dict.fromkeys(name for part in parts for name in part))
        self.fields = tuple(dict.fromkeys((*self.fields, *named)))
        self.names = tuple(dict.fromkeys((*self.names, *named)))

    def _cell(self, index: int, column: str) -> Any:
        if self.parts and column in self.parts[index]:
            return self.parts[index][column]
        return super()._cell(index, column)

    def content(self, where: Any) -> bytes:
        return self.folder.read(where)

    def text(self, where: Any) -> bytes:
        return self.folder.read(where, self.max_text, "max_text")

    def file(self, where: Any, name: str) -> Any:
        return where


class FolderSource(Tabular, name="folder"):
    """Images, sounds and videos in a folder, on any filesystem of fsspec; files that share a name are one sample.

    `url` names the folder (`flowers`, `zip://::flowers.zip`), or ends with a pattern (`flowers/*.png`).

    Fields: `image`, `audio`, `video`, `caption` from a .txt file beside it, the keys of a .json file beside it, and
    `label`, the first folder of the path, where all images (or sounds, or videos) are in folders. With `pattern`, as in
    `"{speaker}/{label}_{take}"`, parts of the path are fields. Ids are paths without extension. `columns` chooses and
    renames, as in `table`, whose policy for bad samples it has.
    """

    example: ClassVar[str] = "data: {train: {use: folder, url: flowers/train}}"

    url: str = outside_identity(min_length=1)
    classes: tuple[ClassName, ...] = Field((), description="folders that are classes, in the order of their numbers")
    pattern: str | None = Field(None, description="names parts of the path without extension: {NAME}_{OTHER}")

    @field_validator("pattern")
    @classmethod
    def _named_parts(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            PathPattern(pattern)
        return pattern

    def marks(self) -> tuple[str, ...]:
        return tuple(f"{name}\0{mark}" for name, mark in self._listing()[1].items())

    def load(self) -> RowReader:
        folder, names = self._listing()
        tally = Tally()
        groups = self._groups(folder, names, tally)
        labels = None
        if self.classes:
            self._check_classes({stem.partition("/")[0] for stem, _ in groups if "/" in stem})
            groups = [(stem, files) for stem, files in groups if stem.partition("/")[0] in self.classes]
        if groups and all("/" in stem for stem, _ in groups):
            labels = [stem.partition("/")[0] for stem, _ in groups]
        if not groups:
            out = "; ".join(map(str, tally))
            raise ComponentError(f"{self.url} holds no images, sounds or texts", found=out or self.url)
        kinds = FileKinds.told(groups, self.chosen())
        for stem, files in groups:
            for extension, reason in kinds.unread(files):
                tally.add(f"{stem}.{extension}", reason)
        parts, unlike = self._parts([stem for stem, _ in groups])
        safe = [(shown(stem), files) for stem, files in groups]
        rows = FolderRows(folder, safe, kinds, labels, self.max_text, parts)
        rows.broken.update(unlike)
        source = self
        if self.classes and labels is not None:
            column = {"column": "label", "modality": "label", "names": self.classes}
            columns = self.columns or {name: {} for name in rows.fields if name != "id"}
            source = type(self).model_validate({**dict(self), "columns": {**columns, "label": column}})
        return RowReader(source, rows, folder, name=self.url, id_column="id", left_out=tally)

    def _groups(self, folder: Folder, names: Collection[str], tally: Tally) -> list[tuple[str, dict[str, str]]]:
        """The files of each sample by extension, in the order of their common names; the others are tallied."""
        found: dict[str, dict[str, str]] = {}
        for name in names:
            stem, _, extension = name.rpartition(".")
            if hidden(name):
                tally.add(name, "hidden (a name that begins with a dot)")
            elif not stem or "/" in extension:
                tally.add(name, "a name without extension")
            elif reason := folder.no_file(name):
                tally.add(name, reason)
            elif extension.lower() in (files := found.setdefault(stem, {})):
                tally.add(name, f"a second file for .{extension.lower()} of one name")
            else:
                files[extension.lower()] = name
        media = {stem for stem, files in found.items() if any(kind_of(e) in MEDIA for e in files)}
        in_folders = bool(media) and all("/" in stem for stem in media)
        groups = []
        for stem, files in sorted(found.items()):
            text = any(kind_of(extension) == "caption" for extension in files)
            if stem in media:
                reason = ""
            elif text and in_folders and "/" not in stem:
                reason = "a text outside the folders that hold the data"
            elif text and media and README.match(posixpath.basename(stem)):
                reason = "a text that is no caption, by its name"
            else:
                read = [extension for extension in files if kind_of(extension)]
                reason = "" if text else "without an image, sound, video or text of its name" if read else "not read"
            if not reason:
                groups.append((stem, files))
            for extension, name in files.items() if reason else ():
                tally.add(name, f"{reason} (.{extension})" if reason == "not read" else reason)
        return groups

    def fingerprint(self) -> Any:
        rows = self.open().rows
        assert isinstance(rows, FolderRows)
        ((folder, names),) = self.files()
        # The reader is kept while the listing tells of no change: its files are hashed once.
        rows.fingerprint = rows.fingerprint or folder.fingerprint(names)
        return {"files": len(names), "content": rows.fingerprint}

    def files(self) -> Sequence[tuple[Folder, Collection[str]]]:
        reader = self.open()
        return [(reader.root, sorted(name for _, files in reader.rows.groups for name in files.values()))]

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
        """The parts of each path by `pattern`, and the faults of paths that do not match it."""
        if self.pattern is None:
            return [], {}
        pattern = PathPattern(self.pattern)
        found = [pattern.match(stem) for stem in stems]
        if not any(found):
            raise ComponentError(
                f"no path in {self.url} is like the pattern {self.pattern!r}", found=stems[0], expected=self.pattern
            )
        unlike = {n: f"its path is not like {self.pattern!r}" for n, match in enumerate(found) if match is None}
        return [match or {} for match in found], unlike

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
