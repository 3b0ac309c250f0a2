"""The output types `Data` (rows with fields) and `Static` (one field without the sample axis)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.plugin.values import TensorType

if TYPE_CHECKING:
    import numpy as np


class DataArtifact:
    """Rows that a stage has made: `data/<name>.parquet`, with their ids, and the declared types of their fields."""

    def __init__(self, output: Path, name: str) -> None:
        self._rows, self._types = output / "data" / f"{name}.parquet", output / "data" / f"{name}.json"

    def write(self, ids: Sequence[str], fields: Mapping[str, Sequence[Any]], types: Mapping[str, TensorType]) -> None:
        """A plain value (text, number, list; None where absent) of each field for each of `ids`."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        if "id" in fields or set(fields) != set(types):
            raise ValueError(f"fields {sorted(fields)} and types {sorted(types)} differ, or one is named id")
        self._rows.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.table({"id": list(ids), **{n: list(v) for n, v in fields.items()}}), self._rows)
        self._types.write_text(json.dumps({name: asdict(type_) for name, type_ in types.items()}))

    def types(self) -> dict[str, TensorType]:
        """The declared types of the fields."""
        return {name: _type_of(plain) for name, plain in json.loads(self._types.read_text()).items()}

    def read(self) -> tuple[list[str], dict[str, list[Any]]]:
        """The ids, and the values of each field in their order."""
        import pyarrow.parquet as parquet

        columns = parquet.read_table(self._rows).to_pydict()
        return columns.pop("id"), columns


class StaticArtifact:
    """A field without the sample axis that a stage has made, such as the centers of clusters: `static/<name>.npz`."""

    def __init__(self, output: Path, name: str) -> None:
        self._file = output / "static" / f"{name}.npz"

    def write(self, values: np.ndarray, type_: TensorType) -> None:
        """`values` [R, ...], numbers or texts; `type_` names the row axis first."""
        import numpy as np

        self._file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self._file, values=values, type=np.array(json.dumps(asdict(type_))))

    def read(self) -> tuple[np.ndarray, TensorType]:
        """The values and their declared type."""
        import numpy as np

        with np.load(self._file, allow_pickle=False) as stored:
            return stored["values"], _type_of(json.loads(str(stored["type"])))


def _type_of(plain: Mapping[str, Any]) -> TensorType:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return TensorType(**fields)
