"""InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Bank, Bounds, Encoded, Loss, Ref, Refs, Score, Value, default
from mmflow_objectives.contrastive.contrast import contrast

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


Temperature = Annotated[Value, Bounds(gt=0)]


class InfoNCE(Loss, name="infonce"):
    """Cross-entropy of each row's match among all candidates (van den Oord et al., 2018; CLIP, Radford et al., 2021).

    With scores s_ij of row i of the first input and row j of the second, divided by the temperature:

        forward_i = log sum_j exp(s_ij) - s_ii      backward_i = log sum_j exp(s_ji) - s_ii

    and the value of row i is the mean of the chosen directions, [N]. Where a score has two directions (`maxsim`),
    each direction uses its own. `negatives`, a memory or an encoding, are further columns of the forward direction that
    match nothing; a memory that is not ready adds none. With `in_batch: false` the only candidates are the match and
    the negatives (MoCo; He et al., 2020).
    """

    example: ClassVar[str] = "{use: infonce, of: [image, text], temperature: {use: learned, init: 0.07, min: 0.01}}"

    of: Refs[Encoded] = Field((), max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of two rows")
    temperature: Temperature = default(0.07, description="divisor of the scores")
    directions: tuple[Literal["forward", "backward"], ...] = Field(
        ("forward", "backward"),
        min_length=1,
        max_length=2,
        description="forward: a row of the first input among the rows of the second",
    )
    in_batch: bool = Field(True, description="whether the other rows of the batch are candidates")
    negatives: Ref[Bank | Encoded] | None = Field(None, description="further candidates: a memory or an encoder")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all candidates")

    def in_batch_negatives(self) -> bool:
        return self.in_batch

    @model_validator(mode="after")
    def _forward_alone(self) -> InfoNCE:
        chosen = set(self.directions)
        if not self.in_batch and chosen != {"forward"}:
            raise ValueError("in_batch: false leaves candidates to the forward direction only: directions: [forward]")
        if self.negatives is not None and "forward" not in chosen:
            raise ValueError("negatives are candidates of the forward direction, which directions does not name")
        return self

    def compute(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, negatives: Encoding | None
    ) -> Tensor:
        from mmflow.kernels.contrast import contrast_blocks, info_nce

        sides = set(self.directions)
        options: dict[str, Any] = {
            "temperature": temperature,
            "in_batch": self.in_batch,
            "directions": "both" if len(sides) == 2 else sides.pop(),
            "label_smoothing": self.smoothing,
            "reduction": "none",
        }
        return contrast(self.use, info_nce, contrast_blocks, a, b, negatives, score, options)
