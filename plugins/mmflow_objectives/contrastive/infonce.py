"""InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Bank, Bounds, Encoded, Labels, Loss, Ref, Refs, Score, Value, default
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
    each direction uses its own.

    `negatives`, a memory or an encoding, are further columns of the forward direction that match nothing; a memory that
    is not ready adds none. Where they are an encoding of one a row, `own_weight` is added to the row's own one (hard
    negatives of SimCSE; Gao et al., 2021). `own_negatives` [N, D] or [N, K, D] are columns of their own row alone. With
    `in_batch: false` the only candidates are the match and these (MoCo; He et al., 2020). Rows of equal `labels` match
    each other: the mean over a row's matches is outside the logarithm (Khosla et al., 2020), or inside it
    (`positives: inside`; Miech et al., 2020). `positive_in_denominator: false` leaves the match out of the sum
    (decoupled; Yeh et al., 2022). `balanced: true` multiplies each direction by 1 / (1 - p) with p the probability of
    the match, without gradient, so that rows which have nearly won still learn (MACL; Huang et al., 2023).
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
    own_weight: float = Field(
        0.0, ge=-100, le=100, description="added to the scaled score of a row with its own one among `negatives`"
    )
    own_negatives: Ref[Encoded] | None = Field(None, description="further candidates of their own row alone")
    labels: Ref[Labels] | None = Field(None, description="rows of one label match; only the own one where unset")
    positives: Literal["outside", "inside"] = Field("outside", description="mean over matches outside or inside log")
    positive_in_denominator: bool = Field(True, description="whether the match is one of the candidates in the sum")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all candidates")
    balanced: bool = Field(False, description="whether rows are weighted by 1 / (1 - probability of the match)")

    def in_batch_negatives(self) -> bool:
        return self.in_batch and self.labels is None

    @model_validator(mode="after")
    def _sides(self) -> InfoNCE:
        chosen = set(self.directions)
        if not self.in_batch and chosen != {"forward"}:
            raise ValueError("in_batch: false leaves candidates to the forward direction only: directions: [forward]")
        if not self.in_batch and self.labels is not None:
            raise ValueError("in_batch: false leaves each row its own match alone, and labels name others")
        for name in ("negatives", "own_negatives"):
            if getattr(self, name) is not None and "forward" not in chosen:
                raise ValueError(f"{name} are candidates of the forward direction, which directions does not name")
        if self.own_weight and (self.negatives is None or not self.in_batch or self.labels is not None):
            raise ValueError("own_weight is for `negatives` of a batch without labels")
        if self.balanced and (self.smoothing or self.labels is not None or not self.positive_in_denominator):
            raise ValueError("balanced weights by the probability of one match: leave out smoothing, labels and "
                             "positive_in_denominator")  # fmt: skip
        return self

    def compute(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, negatives: Encoding | None = None,
        own_negatives: Encoding | None = None, labels: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        from mmflow.kernels.contrast import contrast_blocks, info_nce

        options: dict[str, Any] = {
            "temperature": temperature,
            "in_batch": self.in_batch,
            "label_smoothing": self.smoothing,
            "positive_in_denominator": self.positive_in_denominator,
            "reduction": "none",
        }
        if labels is not None:
            options |= {"x_ids": labels, "positives": self.positives}
        further: dict[str, Any] = {"negatives": negatives, "own_negatives": own_negatives}
        chosen = dict.fromkeys(self.directions)
        if self.own_weight:
            further["own_weight"] = self.own_weight
        if not self.balanced and not self.own_weight:
            side = "both" if len(chosen) == 2 else self.directions[0]
            return contrast(
                self.use, info_nce, contrast_blocks, a, b, score, {**options, "directions": side}, **further
            )
        values: list[Tensor] = []
        for side in chosen:
            only = further if side == "forward" else {}
            value = contrast(self.use, info_nce, contrast_blocks, a, b, score, {**options, "directions": side}, **only)
            if self.balanced:
                # 1 - exp(-value) is the share of the other candidates, 0 where the match has all.
                value = value / (-(-value.detach()).expm1()).clamp_min(1e-8)
            values.append(value)
        return sum(values[1:], values[0]) / len(values)
