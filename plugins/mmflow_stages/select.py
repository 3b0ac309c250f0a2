"""The stage `select`: the rows of data that a column or field says to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mmflow.plugin import ABSENT, ComponentError, DataStage, RawField, Ref, StageContext, StageInputs, TensorType


class Select(DataStage, name="select"):
    """Rows of `data` whose value of `keep` is there and not 0 (or false, or empty), as data of their own.

    `keep` is a field or a stage's column. What `fields` joins to the data stays with the rows. Nothing is copied: the
    rows are read where they were.
    """

    gives: ClassVar[Mapping[str, str]] = {"rows": "Data"}
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"keep": ("label", "mask", "number", "text", "id", "index")}
    example: ClassVar[str] = "{use: select, data: train, keep: clean.label}"

    keep: Ref[RawField]

    def outputs(self, given: StageInputs) -> Mapping[str, Mapping[str, TensorType]]:
        return {"rows": {name: declared for name, declared in given.fields.items() if name != "id"}}

    def run(self, context: StageContext) -> None:
        ids: list[str] = []
        for rows in context.scan("keep"):
            values = rows["keep"]
            values = values.tolist() if hasattr(values, "tolist") else values
            # NaN stands for floats that are absent.
            kept = [value not in (None, False, 0, "", ABSENT) and value == value for value in values]
            ids += [id for id, keep in zip(rows.ids, kept, strict=True) if keep]
        if not ids:
            raise ComponentError(f"select: no row has a value of {self.keep} that is not 0")
        context.write_data("rows", ids, {}, {}, continues=ids)
