"""A stage of one's own: rows in, a column out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mmflow.plugin import DataStage, Encoded, Model, Ref, StageContext, StageInputs, TensorType


class CLASS(DataStage, name="NAME"):
    """Length of each row's vector, as a column that other stages join by id.

    Say here what the stage makes. Whatever it reads and writes goes through its context.
    """

    gives: ClassVar[Mapping[str, str]] = {"length": "Column"}
    example: ClassVar[str] = "{use: NAME, data: train, of: image}"

    of: Ref[Encoded]
    model: Ref[Model] | None = None

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"length": TensorType("number")}

    def depends_on_seed(self) -> bool:
        return False

    def run(self, context: StageContext) -> None:
        rows = context.rows("of")
        context.write_column("length", rows.ids, rows["of"].pooled.norm(dim=-1))
