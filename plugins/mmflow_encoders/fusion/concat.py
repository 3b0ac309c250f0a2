"""Vectors side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import (
    Encoder,
    Pooled,
    RawField,
    Refs,
    TensorType,
)

if TYPE_CHECKING:
    from torch import Tensor


class Concat(Encoder, name="concat"):
    """Vectors side by side: [N, D1], [N, D2], ... -> [N, D1 + D2 + ...]. No weights."""

    example: ClassVar[str] = "{use: concat, of: [image, text]}"

    of: Refs[Pooled | RawField] = Field(min_length=2)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        widths = [given.size[-1] if given.size else None for given in inputs]
        total = None if None in widths else sum(w for w in widths if w is not None)
        return {"pooled": TensorType("vector", inputs[0].axes, (total,), groups=inputs[0].groups)}

    def apply(self, *inputs: Tensor) -> Tensor:
        import torch

        return torch.cat(inputs, dim=-1)
