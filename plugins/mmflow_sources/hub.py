"""The source `hf_dataset`: data sets of the datasets library, on disk or from the hub."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.access.network import NetworkError
from mmflow_sources.compat import content_mark
from mmflow_sources.rows.hub import HubRows
from mmflow_sources.tabular import RowReader, Streamable

if TYPE_CHECKING:
    from mmflow_sources.access.files import Folder

COPIED = 8 * 2**20
"""Bytes that are copied at a time."""


class HfDataset(Streamable, name="hf_dataset"):
    """A data set of the `datasets` library: a folder written by `save_to_disk` (also a URL), or a name on the hub.

    Fields are columns: images, sounds, text, numbers, and classes with the names that the data set gives them. Ids
    come from the column `id` where there is one, else they are row numbers. `columns` chooses and renames, as in
    `table`, whose policy for bad samples it has. From the hub, `revision` (a commit) makes a run repeatable. A
    data set at a URL is copied once to `cache`, and again when it has changed. With `stream`, a data set of the hub
    is not downloaded but read from front to back, as is one on disk.
    """

    requires: ClassVar[tuple[str, ...]] = ("datasets",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "data: {train: {use: hf_dataset, path: ./flowers, split: train}}"

    path: str = outside_identity(min_length=1, description="folder, URL of a folder, or name on the hub")
    split: str | None = Field(None, description="train, test, ...; slices such as train[:10%] too")
    config: str | None = Field(None, description="configuration of a data set that has several")
    revision: str | None = Field(None, description="commit on the hub")
    id: str | Literal[False] | None = Field(
        None, description="column of ids, or false for row numbers; a column named id where there is one"
    )
    cache: str | None = outside_identity(None, description="folder that downloads are kept in")

    def marks(self) -> tuple[str, ...]:
        import os

        if self._at_url():
            # It holds a fingerprint of the content, which the datasets library writes.
            return (self._state()[1],)
        if not self._on_disk():
            return (self.path, self.revision or "")
        found = [os.stat(os.path.join(parent, name)) for parent, _, names in os.walk(self.path) for name in names]
        return (str(len(found)), str(sum(stat.st_size for stat in found)), str(max(stat.st_mtime for stat in found)))

    def load(self) -> Any:
        root = self.folder(self.path if self._on_disk() else ".")
        if self.stream:
            from mmflow_sources.shards.hub import HubShards
            from mmflow_sources.shards.reader import StreamReader

            return StreamReader(self, HubShards(self._dataset()), root, name=self.path, id=self.id)
        rows = HubRows(self._dataset())
        id_column = None if self.id is False else self.id or ("id" if "id" in rows.names else None)
        return RowReader(self, rows, root, name=self.path, id_column=id_column)

    def fingerprint(self) -> Any:
        found = [folder.fingerprint(names) for folder, names in self.files()]
        if found:
            return found[0]
        mark = None if self.stream else content_mark(self.open().rows.dataset)
        return {"revision": self.revision, "fingerprint": mark}

    def files(self) -> Sequence[tuple[Folder, Collection[str]]]:
        import os

        if self._at_url():
            inside, state = self._state()
            return [(self.folder(self.path), [inside + name for name in _data_files(state)])]
        if not self._on_disk():
            return []
        names = [
            os.path.relpath(os.path.join(parent, name), self.path)
            for parent, _, found in os.walk(self.path)
            for name in found
            if name.endswith(".arrow")
        ]
        return [(self.folder(self.path), names)]

    def _on_disk(self) -> bool:
        import os

        return os.path.isdir(self.path)

    def _at_url(self) -> bool:
        return "://" in self.path

    def _state(self) -> tuple[str, str]:
        """The folder of the split below the URL (empty, or ending with a slash), and what its state.json holds."""
        folder = self.folder(self.path)
        inside = ""
        try:
            splits = json.loads(folder.read("dataset_dict.json"))["splits"]
        except FileNotFoundError:
            pass
        else:
            self._check_split(splits)
            inside = f"{self.split}/"
        try:
            state = folder.read(f"{inside}state.json").decode()
            if not inside:
                self._check_only(json.loads(state).get("_split"))
            return inside, state
        except FileNotFoundError:
            raise ComponentError(
                f"no data set at {self.path}", found=self.path, expected="a folder written by `save_to_disk`"
            ) from None

    def _copied(self) -> str:
        """A folder of this machine that holds a copy of what lies at the URL."""
        import hashlib
        import os
        import shutil
        import tempfile

        from datasets import config

        folder = self.folder(self.path)
        inside, state = self._state()
        names = ["dataset_info.json", *_data_files(state)]
        marks = [folder.version(inside + name) for name in names]
        key = hashlib.sha256("\0".join((self.path, inside, state, *marks)).encode()).hexdigest()[:32]
        cache = os.path.join(self.cache or str(config.HF_DATASETS_CACHE), "copies")
        place = os.path.join(cache, key)
        if os.path.isdir(place):
            return place
        os.makedirs(cache, exist_ok=True)
        part = tempfile.mkdtemp(dir=cache)
        try:
            for name in names:
                with folder.open(inside + name, COPIED) as file, open(os.path.join(part, name), "wb") as copy:
                    shutil.copyfileobj(file, copy, COPIED)
            with open(os.path.join(part, "state.json"), "w", encoding="utf-8") as file:
                file.write(state)
            # Whole or not at all; where two processes copy at once, the first one's copy stays.
            with contextlib.suppress(OSError):
                os.rename(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return place

    def _check_split(self, splits: Collection[str]) -> None:
        if self.split not in splits:
            raise ComponentError(
                f"{self.path} has no split {self.split!r}", found=str(self.split),
                expected=f"one of: {', '.join(map(str, splits))}",
            )  # fmt: skip

    def _check_only(self, split: Any) -> None:
        """A folder of one data set, which may say what split it is."""
        if self.split is not None and self.split != (split and str(split)):
            raise ComponentError(
                f"{self.path} holds one data set without splits, not its split {self.split!r}", found=self.split,
                hint="leave out `split`; `use: split` and `use: subset` take a part",
            )  # fmt: skip

    def _dataset(self) -> Any:
        import datasets

        try:
            if self._at_url():
                return datasets.load_from_disk(self._copied())
            if self._on_disk():
                found = datasets.load_from_disk(self.path)
                if isinstance(found, datasets.DatasetDict):
                    self._check_split([str(split) for split in found])
                    found = found[self.split]
                else:
                    self._check_only(found.split)
                return found
            found = datasets.load_dataset(
                self.path, self.config, split=self.split, revision=self.revision, cache_dir=self.cache,
                streaming=bool(self.stream),
            )  # fmt: skip
        except (ComponentError, NetworkError):
            raise
        except Exception as error:
            message = f"{self.path} cannot be loaded: {type(error).__name__}: {error}"
            raise ComponentError(message, found=self.path) from error
        if isinstance(found, dict):
            raise ComponentError(
                f"{self.path} has several splits", hint=f"write `split:`, one of: {', '.join(map(str, found))}"
            )
        return found


def _data_files(state: str) -> list[str]:
    """Names of the files that a state.json lists; raises `ComponentError` where they are not below it."""
    try:
        names = [str(file["filename"]) for file in json.loads(state)["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ComponentError(f"state.json is none of the datasets library: {error!r}") from error
    outside = next((name for name in names if "/" in name or "\\" in name or name in ("", ".", "..")), None)
    if outside is not None:
        raise ComponentError(f"state.json lists {outside!r}, which leaves its folder", found=outside)
    return names
