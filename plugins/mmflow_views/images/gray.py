"""Gray values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.images.sometimes import YES, Sometimes, gray_of

if TYPE_CHECKING:
    import numpy as np


class Gray(Sometimes, name="gray"):
    """Gray values in all channels, with probability `p`. Adds `gray`, whether the image is gray."""

    adds: ClassVar[Mapping[str, TensorType]] = {"gray": YES}

    p: float = Field(0.2, ge=0, le=1)

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"gray": drawn is not None}

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        gray = (gray_of(image) + 0.5).astype(np.uint8)
        return np.repeat(gray[..., None], image.shape[2], axis=2)
