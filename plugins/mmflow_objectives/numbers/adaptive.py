"""A number that follows the similarity of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import BatchValue, Encoded, Refs, Score, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Adaptive(BatchValue, name="adaptive"):
    """base * (1 + gain * (A - center)), with A the mean score of the pairs of the batch; it carries no gradient.

    As a temperature it grows while pairs grow alike, so that near negatives are tolerated (MACL; Huang et al., 2023).
    """

    example: ClassVar[str] = "temperature: {use: adaptive, of: [image, text], base: 0.1, gain: 0.5}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of the two sides of a pair")
    base: float = Field(0.1, gt=0, le=1e6, description="the number where A is `center`")
    gain: float = Field(0.5, ge=0, le=1, description="how much of A - center is added")
    center: float = Field(0.0, ge=-1, le=1, description="the similarity at which the number is `base`")

    def compute(self, a: Encoding, b: Encoding, score: Score) -> Tensor:
        alike = score.pairs(a, b).detach().mean()
        return self.base * (1 + self.gain * (alike - self.center))
