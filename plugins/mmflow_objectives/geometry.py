"""Losses on distances between embeddings: alignment, uniformity, triplets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from mmflow.plugin import Bounds, Encoded, Loss, Pooled, Refs, Score, Value, default
from mmflow.plugin.kinds import Scope

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Alignment(Loss, name="alignment"):
    """Distance of matched vectors to a power: ||a - b||^power, vectors of length one (Wang and Isola, 2020)."""

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: alignment, of: [image, text], power: 2}"

    of: Refs[Pooled] = Field(min_length=2, max_length=2)
    power: PositiveFloat = Field(2.0, description="exponent of the distance")
    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        if self.normalize:
            a, b = normalize(a, dim=-1), normalize(b, dim=-1)
        squared = (a - b).square().sum(-1)
        if self.power == 2:
            return squared
        # The slope of a power below two is infinite at zero distance.
        return squared.clamp_min(torch.finfo(squared.dtype).tiny).pow(self.power / 2)


class Uniformity(Loss, name="uniformity"):
    """How unevenly vectors of length one lie: log mean_{i<j} exp(-t ||x_i - x_j||^2) (Wang and Isola, 2020). A scalar.

    Several inputs are averaged. One row alone has no pair and loss 0.
    """

    example: ClassVar[str] = "{use: uniformity, of: [image, text], t: 2}"

    of: Refs[Pooled] = Field(min_length=1)
    t: PositiveFloat = Field(2.0, description="how fast the kernel falls with the squared distance")
    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def compute(self, *inputs: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels import uniformity

        vectors = [normalize(x, dim=-1) if self.normalize else x for x in inputs]
        return torch.stack([uniformity(x, self.t) for x in vectors]).mean()


class Triplet(Loss, name="triplet"):
    """Hinge between the score of a match and of a negative: max(0, margin - s(a, p) + s(a, n)).

    With three inputs the third holds each row's negative (Schroff et al., 2015). With two, the negatives are the other
    rows of the batch, in both directions, and a row's value is the sum of the two hinges against its hardest
    negative, or, with `negatives: all`, of the means over all negatives (VSE++; Faghri et al., 2018).
    """

    example: ClassVar[str] = "{use: triplet, of: [image, text], margin: 0.2}"

    of: Refs[Encoded] = Field(min_length=2, max_length=3)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="how two rows are compared")
    margin: Annotated[Value, Bounds(ge=0)] = default(0.2, description="by how much a match must score higher")
    negatives: Literal["hardest", "all"] = Field("hardest", description="which negatives of the batch count")

    def scope(self) -> Scope:
        return "row" if len(self.of) == 3 else "batch"

    def compute(self, *inputs: Encoding, score: Score, margin: float | Tensor) -> Tensor:
        if len(inputs) == 3:
            anchor, positive, negative = inputs
            return (margin - score.pairs(anchor, positive) + score.pairs(anchor, negative)).relu()
        scored = score.blocks(*inputs)
        forward, backward = scored if isinstance(scored, tuple) else (scored, scored.T)
        return self._hinges(forward, margin) + self._hinges(backward, margin)

    def _hinges(self, scores: Tensor, margin: float | Tensor) -> Tensor:
        import torch

        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        hinges = (margin - scores.diagonal()[:, None] + scores).relu().masked_fill(own, 0)
        return hinges.amax(1) if self.negatives == "hardest" else hinges.sum(1) / max(1, len(scores) - 1)
