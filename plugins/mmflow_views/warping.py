"""Transforms that move things in time: shifts, warps, shuffled parts, reversal. All fields of a view move alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.signals import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class ShiftTime(TimeTransform, name="shift_time"):
    """Moved along time by at most a share `most` either way; what leaves at one end comes back at the other.

    Adds `shift`: by what share of the whole, later being positive. Nothing moves in evaluation.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"shift": TensorType("number")}
    example: ClassVar[str] = "views: {moved: {of: audio, apply: [{use: shift_time, most: 0.1}]}}"

    most: float = Field(0.1, ge=0, le=1)

    def draw(self, length: int, generator: Any) -> int:
        reach = int(self.most * length)
        return 0 if generator is None else int(generator.integers(-reach, reach + 1))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        return np.roll(values, drawn, axis=0)

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"shift": drawn / length}


class WarpTime(TimeTransform, name="warp_time"):
    """Played now faster, now slower (time warping; Um et al., 2017): linear interpolation at places that follow a
    piecewise linear map of the whole onto itself, with `knots` inner knots.

    Speeds between knots are drawn from [1 / (1 + most), 1 + most] and scaled so that the length stays. Adds `warp`:
    where the knots, evenly spaced in the result, were before, as shares of the whole. Nothing moves in evaluation.
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
        # Rounding must not move what stays.
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


class PermuteTime(TimeTransform, name="permute_time"):
    """Cut into `parts` of equal length that are put together in random order (Um et al., 2017).

    Adds `order`: which part stands at each place (Misra et al., 2016, ask for it). In evaluation the order stays.
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


class ReverseTime(TimeTransform, name="reverse_time"):
    """Played backwards with probability `p`; adds `reversed`, whether it was. Never in evaluation."""

    adds: ClassVar[Mapping[str, TensorType]] = {"reversed": TensorType("label", dtype="bool", names=("no", "yes"))}

    p: float = Field(0.5, ge=0, le=1)

    def draw(self, length: int, generator: Any) -> bool:
        return generator is not None and bool(generator.random() < self.p)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        return values[::-1] if drawn else values

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"reversed": drawn}
