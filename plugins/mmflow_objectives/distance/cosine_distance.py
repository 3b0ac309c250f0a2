"""Prediction of one view from the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class CosineDistance(Loss, name="cosine_distance"):
    """1 - cosine of a prediction and its target, which gets no gradient (SimSiam; Chen and He, 2021; with weight 2 the
    distance of BYOL; Grill et al., 2020)."""

    per_row: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: cosine_distance, of: [predicted, other]}"

    of: Refs[Pooled] = Field((), max_length=2, description="the prediction, then the target")
    stop: Literal["target", "none"] = Field("target", description="the input that gets no gradient")

    def compute(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import cosine_similarity

        return 1 - cosine_similarity(prediction, target.detach() if self.stop == "target" else target, dim=-1)
