"""Memories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mmflow.plugin import Encoding, Field, Labels, Memory, Ref, TensorType

if TYPE_CHECKING:
    from torch import Tensor


class Prototypes(Memory, name="prototypes"):
    """A running mean for each class; ready once every class has been seen."""

    labels: Ref[Labels]
    classes: int = 4
    momentum: float = 0.9
    one_by_one: bool = False
    ready: Literal["any", "full"] = Field("any")

    def initial(self, columns: Mapping[str, TensorType], *, generator: Any) -> dict[str, Tensor]:
        import torch

        (column,) = columns.values()
        return {"vectors": torch.zeros(self.classes, int(column.size[0] or 1)), "seen": torch.zeros(self.classes)}

    def entries(self) -> int:
        return self.classes

    def begun(self, state: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        return {"vectors": content["value"].clone(), "seen": torch.ones_like(state["seen"])}

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        vectors, seen = state["vectors"].clone(), state["seen"].clone()
        for label in range(self.classes):
            rows = columns["value"][labels == label]
            if len(rows):
                mean = rows.mean(0)
                old = vectors[label] if seen[label] else mean
                vectors[label] = self.momentum * old + (1 - self.momentum) * mean
                seen[label] = 1
        return {"vectors": vectors, "seen": seen}

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        if not state["seen"].all() if self.ready == "full" else not state["seen"].any():
            return None
        return {"value": Encoding({"pooled": state["vectors"]}, ("class",), state["seen"] > 0)}
