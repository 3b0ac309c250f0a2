"""Triplets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Bounds, Encoded, Loss, Refs, Scope, Score, Value, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Triplet(Loss, name="triplet"):
    """Hinge between the score of a match and of a negative: max(0, margin - s(a, p) + s(a, n)).

    With three inputs the third holds each row's negative (Schroff et al., 2015). With two, the negatives are the other
    rows of the batch, in both directions, and a row's value is the sum of the two hinges against its hardest
    negative, or, with `negatives: all`, of the means over all negatives (VSE++; Faghri et al., 2018).
    """

    example: ClassVar[str] = "{use: triplet, of: [image, text], margin: 0.2}"

    of: Refs[Encoded] = Field((), max_length=3)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of two rows")
    margin: Annotated[Value, Bounds(ge=0)] = default(
        0.2, per_row=True, description="smallest difference between the scores of match and negative, or one a row"
    )
    negatives: Literal["hardest", "all"] = Field(
        "hardest", description="the hardest negative of the batch, or the mean over all"
    )

    def scope(self) -> Scope:
        return "row" if len(self.of) == 3 else "batch"

    def compute(
        self, a: Encoding, b: Encoding, negative: Encoding | None = None, *, score: Score, margin: float | Tensor
    ) -> Tensor:
        if negative is not None:
            return (margin - score.pairs(a, b) + score.pairs(a, negative)).relu()
        scored = score.blocks(a, b)
        forward, backward = scored if isinstance(scored, tuple) else (scored, scored.T)
        return self._hinges(forward, margin) + self._hinges(backward, margin)

    def _hinges(self, scores: Tensor, margin: float | Tensor) -> Tensor:
        import torch

        if isinstance(margin, torch.Tensor) and margin.ndim:
            margin = margin[:, None]
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        hinges = (margin - scores.diagonal()[:, None] + scores).relu().masked_fill(own, 0)
        return hinges.amax(1) if self.negatives == "hardest" else hinges.sum(1) / max(1, len(scores) - 1)
