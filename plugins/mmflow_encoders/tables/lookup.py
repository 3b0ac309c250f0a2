"""A table of vectors, read by label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Encoder, Index, Labels, RawField, Refs, TensorType
from mmflow_encoders.declared import Width, vector_like

if TYPE_CHECKING:
    from torch import nn


class Lookup(Encoder, name="lookup"):
    """One learned vector for each label: `pooled` [N, width], the row of the table that the label names.

    The number of rows is that of the label's class names, or `count`. A label below zero (none) gives zeros and no
    gradient; a label beyond the table is an error. The table is drawn with deviation `std`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("label", "index"),)
    example: ClassVar[str] = "{use: lookup, of: label, width: 128}"

    of: Refs[Labels | Index | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    width: Width = Field(256, description="of a vector")
    count: int | None = Field(None, ge=1, le=1_000_000_000, description="rows; unset: the number of class names")
    std: float = Field(0.02, ge=0, le=1e6, description="standard deviation of the initial vectors")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        classes = len(inputs[0].names)
        if self.count is not None and self.count < classes:
            raise ComponentError(
                "the table needs a row for each label", found=f"count {self.count}", expected=f"at least {classes}"
            )
        return {"pooled": vector_like(inputs[0], self.width)}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.tables import LookupTable

        count = self.count or len(inputs[0].names)
        if not count:
            raise ComponentError(
                "lookup does not know how many labels there are", hint="write `count`: the label has no class names"
            )
        return LookupTable(count, self.width, std=self.std)
