"""The output type `Column`: one value an id, as `columns/<name>.parquet` with the columns `id` and `value`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.plugin.component import ComponentError

if TYPE_CHECKING:
    from torch import Tensor


class ColumnArtifact:
    """A stored column. A reference of several words, such as `image.features`, is the file `image_features`."""

    def __init__(self, output: Path, name: str) -> None:
        self._file = output / "columns" / f"{self.file_name(name)}.parquet"

    @staticmethod
    def file_name(name: str) -> str:
        """The name of the file behind the name of a column."""
        return name.replace(".", "_")

    @classmethod
    def find(cls, output: Path, stage: str, name: str | None) -> ColumnArtifact:
        """The column `name` of a stage, or its only one; raises `ComponentError` with the names that are there."""
        names = sorted(file.stem for file in (output / "columns").glob("*.parquet"))
        wanted = names[0] if name is None and len(names) == 1 else cls.file_name(name or "")
        if wanted not in names:
            which = f"no column {name!r}" if name is not None else "several columns, or none"
            raise ComponentError(
                f"the stage {stage} has stored {which}", expected=", ".join(f"{stage}.{known}" for known in names)
            )
        return cls(output, wanted)

    def write(self, ids: Sequence[str], values: Tensor | Sequence[Any], present: Tensor | None = None) -> None:
        """A value for each of `ids`: floats [N, ...] as nested lists of float32, or plain values, None where absent.

        `present` is bool [N, ...]: a row without any True is absent.
        """
        import pyarrow as arrow
        import pyarrow.parquet as parquet
        import torch

        kind = None
        if isinstance(values, torch.Tensor):
            kind = arrow.float32()
            for _ in range(values.ndim - 1):
                kind = arrow.list_(kind)
            values = values.float().cpu().numpy().tolist()
        if present is not None:
            there = present.reshape(len(ids), -1).any(1).tolist()
            values = [value if here else None for value, here in zip(values, there, strict=True)]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.table({"id": list(ids), "value": arrow.array(values, kind)}), self._file)

    def read(self) -> dict[str, Any]:
        """Values by id; vectors as float32 numpy arrays, None where absent."""
        import numpy as np
        import pyarrow.parquet as parquet

        table = parquet.read_table(self._file)
        values = table.column("value").to_pylist()
        found = [np.asarray(v, dtype=np.float32) if isinstance(v, list) else v for v in values]
        return dict(zip(table.column("id").to_pylist(), found, strict=True))
