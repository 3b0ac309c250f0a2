"""Shuffled parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class PermuteTime(TimeTransform, name="permute_time"):
    """Cuts into `parts` of equal length and joins them in random order (Um et al., 2017).

    Adds `order`: the number of the part at each place (Misra et al., 2016, ask for it). In evaluation the order stays.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"order": TensorType("index", size=(None,), dtype="int64")}
    example: ClassVar[str] = "views: {shuffled: {of: video, apply: [{use: permute_time, parts: 4}]}}"

    parts: int = Field(4, ge=2, le=256)

    def draw(self, length: int, generator: Any) -> Any:
        import numpy as np

        return np.arange(self.parts) if generator is None else generator.permutation(self.parts)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        parts = np.array_split(values, self.parts)
        return np.concatenate([parts[part] for part in drawn])

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"order": drawn}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        return {"order": super().added(*fields)["order"].with_(size=(self.parts,))}
