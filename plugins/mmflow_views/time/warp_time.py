"""Changes of speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class WarpTime(TimeTransform, name="warp_time"):
    """Changes the speed within a series (time warping; Um et al., 2017): linear interpolation at places that follow a
    piecewise linear map of the whole onto itself, with `knots` inner knots.

    Speeds between knots are drawn from [1 / (1 + most), 1 + most] and scaled so that the length stays. Adds `warp`:
    the original places of the knots, which are evenly spaced in the result, as shares of the whole. Nothing moves in
    evaluation.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"warp": TensorType("vector", size=(None,))}
    example: ClassVar[str] = "views: {warped: {of: series, apply: [{use: warp_time, knots: 4, most: 0.5}]}}"

    knots: int = Field(4, ge=1, le=256)
    most: float = Field(0.5, ge=0, le=10)

    def draw(self, length: int, generator: Any) -> Any:
        import numpy as np

        even = np.linspace(0, 1, self.knots + 2)
        if generator is None:
            return even
        speeds = (1 + self.most) ** generator.uniform(-1, 1, self.knots + 1)
        return np.concatenate([[0.0], np.cumsum(speeds) / speeds.sum()])

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        length = len(values)
        places = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(drawn)), drawn) * (length - 1)
        # Rounding must not move a place that stays.
        places = np.clip(np.where(np.abs(places - np.rint(places)) < 1e-9, np.rint(places), places), 0, length - 1)
        low = places.astype(int)
        high = np.minimum(low + 1, length - 1)
        if values.dtype.kind != "f":
            return values[np.rint(places).astype(int)]
        share = (places - low).astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        return (1 - share) * values[low] + share * values[high]

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"warp": drawn[1:-1].astype("float32")}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        return {**super().added(*fields), "warp": TensorType("vector", size=(self.knots,))}
