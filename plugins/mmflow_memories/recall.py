"""Rows of a memory for the samples of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Bank, Encoder, RawField, Ref, Refs, Scope, TensorType

if TYPE_CHECKING:
    from torch import nn


class Recall(Encoder, name="recall"):
    """What a memory with a row for each sample holds of the samples of a batch: `of` is their id and a column.

    `pooled` [N, ...] is the row of each, zeros where the memory has none; `known` [N] is 1 where it has one and 0
    elsewhere, for `rows` of a loss. It has the values of the step's begin, or with `.after` those of its end.
    """

    example: ClassVar[str] = "{use: recall, of: [id, bank.image], ids: bank.id}"
    paired: ClassVar[bool] = False

    of: Refs[RawField | Bank] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    ids: Ref[Bank] = Field(description="the ids of the memory's rows: its column `id`")

    def scope(self) -> Scope:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        axes = {"axes": inputs[0].axes, "groups": inputs[0].groups}
        modality = "vector" if inputs[1].size else "number"
        return {"pooled": inputs[1].with_(modality=modality, **axes), "known": TensorType("number", **axes)}

    def build(self, *inputs: TensorType, state: Mapping[str, object]) -> nn.Module:
        from mmflow_memories.modules import Recalled

        return Recalled(tuple(int(n or 1) for n in inputs[1].size), inputs[1].dtype)
