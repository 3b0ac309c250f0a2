"""Convex combinations of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.mixing.base import PairTransform, check_same_shape, distribution


class Mixup(PairTransform, name="mixup"):
    """Convex combinations of pairs, `lambda * own + (1 - lambda) * other` (Zhang et al., 2018).

    Mixes images (as float32 in [0, 1]), clips, sounds, series, vectors and numbers of one shape; a label becomes a
    distribution over the classes, mixed by the same share, as distributions are: `mixed.label` then serves as the
    labels of a cross-entropy.
    """

    example: ClassVar[str] = "views: {mixed: {of: [image, label], apply: [{use: mixup, alpha: 0.2}]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        labels = self.labels(own)
        mixed = {n: self._mixed(value, other[n], share) for n, value in own.items() if n not in labels}
        names = {n: distribution(own[n], other[n], share, classes) for n, classes in labels.items()}
        return {**mixed, **names}, {}

    def _mixed(self, own: Any, other: Any, share: float) -> Any:
        import numpy as np

        first, second = self.still(own), self.still(other)
        if not isinstance(first, np.ndarray):
            return float(share * first + (1 - share) * second)
        check_same_shape(self.use, first, second)
        return (np.float32(share) * first + np.float32(1 - share) * second).astype(first.dtype)

    def still(self, value: Any) -> Any:
        import numpy as np

        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fu":
            found = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ValueError(f"mixup mixes images, arrays of floats, numbers and labels, not {found}")
        return value.astype(np.float32) / 255 if value.dtype == np.uint8 else value

    def result(self, field: TensorType) -> TensorType:
        listed = field.axes[1:] not in ((), ("frame",))
        whole = field.dtype.startswith(("int", "bool")) and field.modality not in ("label", "number")
        classes = field.modality == "labels" and not (field.dtype.startswith("float") and field.size)
        if field.modality in ("text", "id", "boxes", "graph") or classes or listed or whole:
            found = " ".join((field.modality, *(f"with the axis {axis}" for axis in field.axes[1:2] if listed)))
            raise ValueError(f"mixup cannot mix {found}")
        if field.modality in ("image", "video"):
            return field.with_(dtype="float32")
        return super().result(field)
