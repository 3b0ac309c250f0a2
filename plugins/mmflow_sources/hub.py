"""The source `hf_dataset`: data sets of the datasets library, on disk or from the hub."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, outside_identity
from mmflow_sources.tabular import RowReader, Tabular


class HubRows:
    """Rows of a `datasets.Dataset`; pictures and sounds are given as bytes or paths, decoded by whoever reads them."""

    def __init__(self, dataset: Any) -> None:
        import datasets

        kinds = (datasets.Image, datasets.Audio)
        for name, feature in dataset.features.items():
            if isinstance(feature, kinds):
                dataset = dataset.cast_column(name, type(feature)(decode=False))
        self.dataset = dataset
        self.names: tuple[str, ...] = tuple(dataset.column_names)
        self.schema = dataset.features.arrow_schema
        self.broken: dict[int, str] = {}
        self._views: dict[tuple[str, ...], Any] = {}

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_views": {}}

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        return self._narrow(tuple(columns))[index]

    def column(self, name: str) -> Iterable[Any]:
        return (row[name] for row in self._narrow((name,)))

    def where(self, index: int) -> str:
        return f"row {index}"

    def _narrow(self, columns: tuple[str, ...]) -> Any:
        if columns not in self._views:
            self._views[columns] = self.dataset.select_columns(list(columns))
        return self._views[columns]


class HfDataset(Tabular, name="hf_dataset"):
    """A data set of the `datasets` library: a folder written by `save_to_disk`, or a name on the hub.

    Fields are columns: pictures, sounds, text, numbers, and classes with the names that the data set gives them. Ids
    come from the column `id` where there is one, else they are row numbers. `columns` chooses and renames, as in
    `table`, whose policy for bad samples it has. From the hub, `revision` (a commit) makes a run repeatable.
    """

    requires: ClassVar[tuple[str, ...]] = ("datasets",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "data: {train: {use: hf_dataset, path: ./flowers, split: train}}"

    path: str = Field(min_length=1, description="folder, or name on the hub")
    split: str | None = Field(None, description="train, test, ...; slices such as train[:10%] too")
    config: str | None = Field(None, description="configuration of a data set that has several")
    revision: str | None = Field(None, description="commit on the hub")
    id: str | None = Field(None, description="column of ids")
    cache: str | None = outside_identity(None, description="folder that downloads are kept in")

    def identity(self) -> Any:
        # A folder is told by its content, wherever it lies.
        found = dict(super().identity())
        return {**found, "path": ""} if self._on_disk() else found

    def marks(self) -> tuple[str, ...]:
        import os

        if not self._on_disk():
            return (self.revision or "",)
        found = [os.stat(os.path.join(parent, name)) for parent, _, names in os.walk(self.path) for name in names]
        return (str(len(found)), str(sum(stat.st_size for stat in found)), str(max(stat.st_mtime for stat in found)))

    def load(self) -> RowReader:
        from mmflow_sources.files import Folder

        rows = HubRows(self._dataset())
        id_column = self.id or ("id" if "id" in rows.names else None)
        root = Folder(self.path if self._on_disk() else ".")
        return RowReader(self, rows, root, name=self.path, id_column=id_column)

    def fingerprint(self) -> Any:
        import os

        from mmflow_sources.files import Folder

        if not self._on_disk():
            reader = self.open()
            assert isinstance(reader.rows, HubRows)
            return {"revision": self.revision, "fingerprint": reader.rows.dataset._fingerprint}
        names = [
            os.path.relpath(os.path.join(parent, name), self.path)
            for parent, _, found in os.walk(self.path)
            for name in found
            if name.endswith(".arrow")
        ]
        return Folder(self.path).fingerprint(names)

    def _on_disk(self) -> bool:
        import os

        return os.path.isdir(self.path)

    def _dataset(self) -> Any:
        import datasets

        try:
            if self._on_disk():
                found = datasets.load_from_disk(self.path)
                if isinstance(found, datasets.DatasetDict):
                    if self.split not in found:
                        raise ComponentError(
                            f"{self.path} has no split {self.split!r}", found=str(self.split),
                            expected=f"one of: {', '.join(map(str, found))}",
                        )  # fmt: skip
                    found = found[self.split]
                return found
            found = datasets.load_dataset(
                self.path, self.config, split=self.split, revision=self.revision, cache_dir=self.cache
            )
        except ComponentError:
            raise
        except Exception as error:
            message = f"{self.path} cannot be loaded: {type(error).__name__}: {error}"
            raise ComponentError(message, found=self.path) from error
        if isinstance(found, dict):
            raise ComponentError(
                f"{self.path} has several splits", hint=f"write `split:`, one of: {', '.join(map(str, found))}"
            )
        return found
