"""The output type `Column`: one value an id, as `columns/<name>.parquet` with the columns `id` and `value`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.artifacts.cells import StoredRows, type_of_values, write_rows
from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import RawValue, TensorType

if TYPE_CHECKING:
    from torch import Tensor

VALUE = "value"
"""The column of values."""


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

    def write(
        self,
        ids: Sequence[str],
        values: Tensor | Sequence[Any],
        present: Tensor | None = None,
        type_: TensorType | None = None,
    ) -> None:
        """A value for each of `ids`, None where absent: floats [N, ...] as nested lists of float32, arrays, or plain
        values. `type_` names the axis of the ids first; by default they are samples.

        `present` is bool [N, ...]: a row without any True is absent.
        """
        import torch

        declared = type_ or type_of_values(values)
        if present is not None:
            there = present.reshape(len(ids), -1).any(1).tolist()
            rows = values.float().cpu().numpy() if isinstance(values, torch.Tensor) else values
            values = [row if here else None for row, here in zip(rows, there, strict=True)]
        write_rows(self._file, ids, {VALUE: values}, {VALUE: declared})

    def copy_to(self, other: ColumnArtifact) -> None:
        """Store the same column as another one."""
        other._file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._file, other._file)

    def rows(self) -> StoredRows:
        """The file itself, opened."""
        return StoredRows(self._file)

    def type(self) -> TensorType:
        """The declared type of the values; unknown for a column that was stored without."""
        return self.rows().types.get(VALUE, TensorType("unknown"))

    def read(self) -> dict[str, RawValue]:
        """Values by id; vectors as float32 numpy arrays, None where absent."""
        rows = self.rows()
        return dict(zip(rows.ids, rows.column(VALUE), strict=True))
