"""InfoNCE against soft targets that are similarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Bounds, Loss, Pooled, Refs, Value, default

if TYPE_CHECKING:
    from torch import Tensor


Temperature = Annotated[Value, Bounds(gt=0)]


class SoftInfoNCE(Loss, name="soft_infonce"):
    """Cross-entropy of each row's scores with similarities as targets, [N]; no gradient reaches the targets.

    With s_ij the cosine of row i of the first input and row j of the second over the temperature, the forward direction
    is log sum_j exp(s_ij) - sum_j t_ij s_ij, with targets t_ij that sum to one over j, from the cosines c of `teacher`
    (the inputs themselves where unset):

        linear    (1 + c(first_i, first_j)) / 2, divided by their sum (CWCL; Srinivasa et al., 2023)
        softmax   softmax_j c(first_i, last_j) / teacher_temperature, of the `top` highest; the share `hard` goes to the
                  own match (Andonian et al., 2022; Gao et al., 2024)
        balanced  Sinkhorn's plan of c(first_i, last_j) / teacher_temperature in three rounds, so that every row of the
                  second input is as much of a target (SwALIP; Fini et al., 2023); holds the N x N targets

    The backward direction is the same with the inputs and the teachers in each other's place.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits"), "teacher": ("vector", "logits")}
    example: ClassVar[str] = "{use: soft_infonce, of: [image, text], form: linear, directions: [forward]}"

    of: Refs[Pooled] = Field((), max_length=2)
    teacher: Refs[Pooled] = Field((), max_length=2, description="vectors whose similarities are the targets")
    form: Literal["linear", "softmax", "balanced"] = Field("softmax", description="how similarities become targets")
    temperature: Temperature = default(0.07, description="divisor of the scores")
    teacher_temperature: float = Field(
        0.07, gt=0, le=1e6, description="divisor of the similarities, of softmax and balanced"
    )
    top: int | None = Field(None, ge=1, le=1_000_000, description="targets a row, the highest, of softmax")
    normalize: bool = Field(True, description="score by cosine, otherwise by dot product")
    hard: float = Field(0.0, ge=0, le=1, description="share of the target that goes to the own match")
    directions: tuple[Literal["forward", "backward"], ...] = Field(
        ("forward", "backward"), min_length=1, max_length=2,
        description="forward: a row of the first input among the rows of the second",
    )  # fmt: skip

    @model_validator(mode="after")
    def _of_softmax(self) -> SoftInfoNCE:
        if self.form != "softmax" and self.top is not None:
            raise ValueError(f"top is of form: softmax; form: {self.form} has every row as a target")
        return self

    def compute(self, a: Tensor, b: Tensor, *, teacher: tuple[Tensor, ...], temperature: float | Tensor) -> Tensor:
        from torch.nn.functional import normalize

        from mmflow.kernels import soft_contrast

        vectors = [v.float() if v.element_size() < 4 else v for v in (a, b, *teacher)]
        if self.normalize:
            vectors = [normalize(v, dim=-1) for v in vectors]
        a, b = vectors[:2]
        first, last = (vectors[2], vectors[-1]) if teacher else (a, b)
        sides = dict.fromkeys(self.directions)
        if self.form == "softmax":
            return soft_contrast(
                a, b, first.detach(), last.detach(), temperature=temperature,
                teacher_temperature=self.teacher_temperature, top_k=self.top, hard=self.hard, reduction="none",
                directions="both" if len(sides) == 2 else self.directions[0],
            )  # fmt: skip
        values = [
            self._directed(a, b, first.detach(), last.detach(), temperature)
            if side == "forward"
            else self._directed(b, a, last.detach(), first.detach(), temperature)
            for side in sides
        ]
        return sum(values[1:], values[0]) / len(values)

    def _directed(self, a: Tensor, b: Tensor, own: Tensor, other: Tensor, temperature: float | Tensor) -> Tensor:
        from mmflow.kernels import assignment, row_logsumexp, sinkhorn

        if self.form == "balanced":
            plan = sinkhorn(own, other, epsilon=self.teacher_temperature, iterations=3)
            mean = (a * (assignment(own, other, plan) @ b)).sum(1)
        else:
            # The targets are affine in inner products, so their weighted sum of scores needs no matrix of pairs.
            total = (len(own) + own @ own.sum(0)) / 2
            mean = ((a * b.sum(0)).sum(1) + (a * (own @ (own.T @ b))).sum(1)) / 2 / total
        expected = (1 - self.hard) * mean + self.hard * (a * b).sum(1) if self.hard else mean
        return row_logsumexp(a, b, temperature=temperature) - expected / temperature
