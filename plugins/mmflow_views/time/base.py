"""The base of the transforms along time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import TensorType, Transform

if TYPE_CHECKING:
    import numpy as np


TIMED = frozenset({"audio", "series", "video", "tokens"})
"""Modalities whose first content size is a length in time."""


TIMELESS = frozenset({"image", "text", "label", "number", "id", "boxes", "index"})
"""Modalities without a length of their own; they have one along an axis of frames."""


class TimeTransform(Transform):
    """Base of the transforms along time: write `change`. All fields of a joint view share one draw."""

    def draw(self, length: int, generator: Any) -> Any:
        return None

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        raise NotImplementedError

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if fields and not any(map(_along_time, fields)):
            found = ", ".join(field.modality for field in fields)
            raise ValueError(f"{self.use} needs a value along time, such as a sound, a series or a video, got {found}")
        lengths = {length for field in fields if (length := _length(field)) is not None}
        if len(lengths) > 1:
            found = " and ".join(map(str, sorted(lengths)))
            raise ValueError(f"{self.use} needs fields of one length in time, got {found}")
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        parts = value if isinstance(value, Mapping) else {"": value}
        lengths = {len(part) for part in parts.values() if isinstance(part, np.ndarray) and part.ndim}
        if not lengths and isinstance(value, Mapping):
            # The fields along time are absent in this row.
            return value
        if len(lengths) != 1:
            found = ", ".join(type(part).__name__ for part in parts.values())
            raise ValueError(f"{self.use} needs arrays of one length in time, got {found} of {sorted(lengths)}")
        (length,) = lengths
        drawn = self.draw(length, generator)
        changed = {
            name: self.change(part, drawn) if isinstance(part, np.ndarray) else part for name, part in parts.items()
        }
        result = changed if isinstance(value, Mapping) else changed[""]
        return (result, self.facts(drawn, length)) if self.adds else result


def _along_time(field: TensorType) -> bool:
    """Whether a value of that type is an array along time."""
    if len(field.axes) > 1:
        return field.axes[1:] == ("frame",)
    # Lists of classes are no arrays.
    return field.modality not in TIMELESS and not (field.modality == "labels" and None in field.size)


def _length(field: TensorType) -> int | None:
    """The declared length of an array; None where it is unknown, or the value is no array."""
    if len(field.axes) > 1:
        return field.groups[0] if field.axes[1:] == ("frame",) and field.groups else None
    return field.size[0] if field.size else None


def timed(field: TensorType, length: int) -> TensorType:
    """The declared type with another length in time: a group axis of frames, or the first content size."""
    if "frame" in field.axes[1:]:
        place = field.axes.index("frame") - 1
        groups = (*field.groups[:place], length, *field.groups[place + 1 :])
        return field.with_(groups=groups)
    return field.with_(size=(length, *field.size[1:])) if field.modality in TIMED else field
