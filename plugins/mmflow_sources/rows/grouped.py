"""Rows made of files that share a name."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from mmflow_sources.access.network import NetworkError
from mmflow_sources.columns import LOOKED_AT
from mmflow_sources.decoding.kinds import looks_like_image, looks_like_sound, looks_like_video


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
        """The cell of an image or a sound: a path below the root, or its bytes."""
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
        """The content of a sample's .json; those of the last samples are kept, since each column asks again."""
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
    if looks_like_image(name):
        return "image"
    if looks_like_sound(name):
        return "audio"
    if looks_like_video(name):
        return "video"
    return {"txt": "caption", "caption": "caption", "text": "caption", "cls": "label"}.get(extension.lower(), extension)
