"""A loss without weights: its method gets tensors, its fields are constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Loss

if TYPE_CHECKING:
    from torch import Tensor


class CosineMargin(Loss, name="cosine_margin"):
    """How far the cosine similarity of matched pairs stays below a margin: mean of max(0, margin - cos(a, b)).

    The positive half of the cosine embedding loss of metric learning (Hadsell et al., 2006, for distances).
    """

    example: ClassVar[str] = "{use: cosine_margin, of: [image, text], margin: 0.8}"

    margin: float = Field(0.8, ge=-1, le=1, description="similarity above which a pair costs nothing")

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, D], [N, D] -> a value a row [N]."""
        from torch.nn.functional import cosine_similarity

        return (self.margin - cosine_similarity(a, b)).clamp_min(0)
