"""Hidden spans of time and bands of frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


SPANS = TensorType("vector", size=(None, 2))


class SpanMask(TimeTransform):
    """Base of the transforms that hide spans: `count` of them, each at most a share `longest` of the whole.

    Adds `hidden`: beginning and end of each span, as shares of the whole; in evaluation nothing is hidden, and all
    are (0, 0).
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"hidden": SPANS}

    count: int = Field(2, ge=1, le=10_000)
    longest: float = Field(0.1, gt=0, le=1)
    fill: Literal["zero", "mean"] = Field("zero", description="values in the span: zeros, or the mean of the rest")

    def spans(self, length: int, generator: Any) -> list[tuple[int, int]]:
        """Beginning and end of each span."""
        if generator is None:
            return [(0, 0)] * self.count
        draws = generator.random((self.count, 2)).tolist()
        sizes = [max(1, round(size * self.longest * length)) for size, _ in draws]
        starts = [int(at * (length - n + 1)) for (_, at), n in zip(draws, sizes, strict=True)]
        return [(start, start + n) for start, n in zip(starts, sizes, strict=True)]

    def hide(self, values: np.ndarray, spans: list[tuple[int, int]], axis: int) -> np.ndarray:
        import numpy as np

        hidden = np.zeros(values.shape[axis], dtype=bool)
        for start, end in spans:
            hidden[start:end] = True
        if not hidden.any():
            return values
        moved = np.moveaxis(values.copy(), axis, 0)
        moved[hidden] = moved[~hidden].mean() if self.fill == "mean" and not hidden.all() else 0
        return np.moveaxis(moved, 0, axis)

    def shares(self, spans: list[tuple[int, int]], length: int) -> Mapping[str, Any]:
        import numpy as np

        return {"hidden": (np.array(spans, dtype=np.float32) / length).astype(np.float32)}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        return {**super().added(*fields), "hidden": SPANS.with_(size=(self.count, 2))}


class MaskTime(SpanMask, name="mask_time"):
    """Hides spans of time, in all channels (time masking; Park et al., SpecAugment, 2019). Adds `hidden`."""

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [log_mel, {use: mask_time, count: 2, longest: 0.2}]}}"

    def draw(self, length: int, generator: Any) -> Any:
        return self.spans(length, generator)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        return self.hide(values, drawn, 0)

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return self.shares(drawn, length)


class MaskBands(SpanMask, name="mask_bands"):
    """Hides bands of a spectrogram [T, bands], or channels of a series, at all times (frequency masking; Park et al.,
    SpecAugment, 2019). Adds `hidden`."""

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [log_mel, {use: mask_bands, count: 1, longest: 0.3}]}}"

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if len(fields) > 1:
            raise ValueError(f"mask_bands takes one field, and the view has {len(fields)}")
        for field in fields:
            if len(field.size) != 2 or len(field.axes) > 1:
                raise ValueError(f"mask_bands needs a series [T, bands], got {field.modality} {list(field.size)}")
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.ndim != 2:
            found = getattr(value, "shape", type(value).__name__)
            raise ValueError(f"mask_bands needs a series [T, bands], got {found}")
        spans = self.spans(value.shape[1], generator)
        return self.hide(value, spans, 1), self.shares(spans, value.shape[1])
