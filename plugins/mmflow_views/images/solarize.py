"""Inverted bright values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.images.sometimes import YES, Sometimes

if TYPE_CHECKING:
    import numpy as np


class Solarize(Sometimes, name="solarize"):
    """Inverts values from `threshold` on (Grill et al., BYOL, 2020). Adds `solarize`, whether they are inverted."""

    adds: ClassVar[Mapping[str, TensorType]] = {"solarize": YES}

    threshold: int = Field(128, ge=0, le=255)
    p: float = Field(0.2, ge=0, le=1)

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"solarize": drawn is not None}

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        return np.where(image >= self.threshold, 255 - image, image)
