"""Rows made of files that share a name."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from mmflow_sources.access.network import NetworkError
from mmflow_sources.columns import LOOKED_AT
from mmflow_sources.names import decoded
from mmflow_sources.rows.kinds import FileKinds, kind_of


class GroupRows:
    """Rows whose cells are files of one name: `image`, `audio`, `video`, `caption` (.txt), `label`, keys of a .json.

    `groups` lists (id, {extension: where the file is}); `label` comes from a .cls file, or from `labels`.
    """

    def __init__(
        self, groups: Sequence[tuple[str, Mapping[str, Any]]], kinds: FileKinds, labels: Sequence[str] | None = None
    ) -> None:
        self.groups, self.kinds, self.labels = groups, kinds, labels
        self.broken: dict[int, str] = {}
        self._sidecars: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        names = list(kinds.columns)
        if labels is not None and "label" not in names:
            names.append("label")
        keys: dict[str, None] = {}
        if "json" in kinds.extensions:
            for index in islice(range(len(groups)), LOOKED_AT):
                try:
                    keys.update(dict.fromkeys(self._json(index)))
                except NetworkError:
                    raise
                except (ValueError, OSError):
                    continue
        self.fields = ("id", *names, *(key for key in keys if key not in names and key != "id"))
        """Columns that are fields where the spec names none."""
        self.names = tuple(dict.fromkeys((*self.fields, *sorted(kinds.every))))
        for index, (_, files) in enumerate(groups):
            if clash := kinds.clash(files):
                self.broken[index] = clash

    def content(self, where: Any) -> bytes:
        """The bytes of a file of a group."""
        raise NotImplementedError

    def text(self, where: Any) -> bytes:
        """The bytes of a text of a group, which are bounded."""
        return self.content(where)

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
        extension = self.kinds.found(column, files)
        if extension is not None:
            if kind_of(extension) in ("caption", "label"):
                return decoded(self.text(files[extension])).strip()
            if kind_of(extension) != "json":
                return self.file(files[extension], f"{id}.{extension}")
        if column == "label" and self.labels is not None:
            return self.labels[index]
        return self._json(index).get(column)

    def _json(self, index: int) -> Mapping[str, Any]:
        """The content of a sample's .json; those of the last samples are kept, since each column asks again."""
        extension = self.kinds.found("json", self.groups[index][1])
        if extension is None:
            return {}
        if index in self._sidecars:
            return self._sidecars[index]
        try:
            found = json.loads(self.text(self.groups[index][1][extension]))
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
