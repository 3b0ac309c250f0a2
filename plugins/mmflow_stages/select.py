"""The stage `select`: the rows of data that a column or field says to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from mmflow.plugin import (
    ABSENT,
    ComponentError,
    DataStage,
    RawField,
    RawValue,
    Ref,
    StageContext,
    StageInputs,
    TensorType,
)


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
        declared = given.of("keep")
        if declared.axes[1:] or declared.size:
            raise ComponentError(
                f"{self.use} goes by one value a row", found=f"several values of {self.keep}",
                hint="name a field with one",
            )  # fmt: skip
        return {"rows": {name: declared for name, declared in given.fields.items() if name != "id"}}

    def refuses_values(self, columns: Mapping[str, Sequence[RawValue]]) -> Iterator[tuple[str, str, str]]:
        if "keep" in columns and not any(map(_kept, columns["keep"])):
            yield "keep", self._nothing(), "name another field, or leave the stage out"

    def _nothing(self) -> str:
        return f"select: no row has a value of {self.keep} that is not 0"

    def run(self, context: StageContext) -> None:
        ids: list[str] = []
        for rows in context.scan("keep"):
            values = rows["keep"]
            values = values.tolist() if hasattr(values, "tolist") else values
            ids += [id for id, value in zip(rows.ids, values, strict=True) if _kept(value)]
        if not ids:
            raise ComponentError(self._nothing())
        context.write_data("rows", ids, {}, {}, continues=ids)


def _kept(value: RawValue) -> bool:
    # NaN stands for floats that are absent.
    return value not in (None, False, 0, "", ABSENT) and value == value
