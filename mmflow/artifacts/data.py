"""The output types `Data` (rows with fields) and `Static` (one field without the sample axis)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.artifacts.cells import StoredRows, type_of_plain, write_rows
from mmflow.plugin.values import RawValue, TensorType

if TYPE_CHECKING:
    import numpy as np

CONTINUES = "@row"
"""The column with the id of the row that a row continues."""


class DataArtifact:
    """Rows that a stage has made: `data/<name>.parquet`, with their ids and the declared types of their fields.

    Fields without the sample axis lie beside it, in `data/<name>/static`.
    """

    def __init__(self, output: Path, name: str) -> None:
        self._rows, self._beside = output / "data" / f"{name}.parquet", output / "data" / name

    def write(
        self,
        ids: Sequence[str],
        fields: Mapping[str, Sequence[RawValue]],
        types: Mapping[str, TensorType],
        *,
        static: Mapping[str, np.ndarray] | None = None,
        continues: Sequence[str] | None = None,
    ) -> None:
        """A value (text, number, list, array; None where absent) of each field for each of `ids`.

        `static` are fields without the sample axis. `continues` names for each row one of the data that the stage
        read, whose fields it has beside its own. Raises `ValueError` for fields without a type.
        """
        static = static or {}
        if "id" in fields or {*fields, *static} != set(types):
            raise ValueError(
                f"fields {sorted({*fields, *static})} and types {sorted(types)} differ, or one is named id"
            )
        columns: dict[str, Sequence[RawValue]] = {} if continues is None else {CONTINUES: list(continues)}
        of_rows = {name: declared for name, declared in types.items() if name in fields}
        write_rows(self._rows, ids, {**columns, **fields}, of_rows)
        for name, values in static.items():
            StaticArtifact(self._beside, name).write(values, types[name])

    def types(self) -> dict[str, TensorType]:
        """The declared types of the fields, static ones included."""
        return {**self.rows().types, **{name: one.type() for name, one in self.static().items()}}

    def rows(self) -> StoredRows:
        """The file of rows, opened."""
        return StoredRows(self._rows)

    def static(self) -> dict[str, StaticArtifact]:
        """The fields without the sample axis."""
        return {file.stem: StaticArtifact(self._beside, file.stem) for file in self._beside.glob("static/*.npz")}

    def read(self) -> tuple[list[str], dict[str, list[Any]]]:
        """The ids, and the values of each field in their order."""
        rows = self.rows()
        return rows.ids, {name: rows.column(name) for name in rows.names() if name != CONTINUES}


class StaticArtifact:
    """A field without the sample axis that a stage has made, such as the centers of clusters: `static/<name>.npz`."""

    def __init__(self, output: Path, name: str) -> None:
        self._file = output / "static" / f"{name}.npz"

    def exists(self) -> bool:
        """Whether it was written."""
        return self._file.exists()

    def write(self, values: np.ndarray, type_: TensorType) -> None:
        """`values` [R, ...], numbers or texts; `type_` names the row axis first, or no axis for a single value."""
        import numpy as np

        self._file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self._file, values=values, type=np.array(json.dumps(asdict(type_))))

    def copy_to(self, other: StaticArtifact) -> None:
        """Store the same field as another one."""
        other._file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._file, other._file)

    def read(self) -> tuple[np.ndarray, TensorType]:
        """The values and their declared type."""
        import numpy as np

        with np.load(self._file, allow_pickle=False) as stored:
            return stored["values"], type_of_plain(json.loads(str(stored["type"])))

    def type(self) -> TensorType:
        """The declared type alone."""
        import numpy as np

        with np.load(self._file, allow_pickle=False) as stored:
            return type_of_plain(json.loads(str(stored["type"])))
