"""Scores as logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import (
    Bounds,
    ComponentError,
    Encoded,
    Encoder,
    Refs,
    Score,
    TensorType,
    Value,
    default,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Scores(Encoder, name="scores"):
    """Scores of each row with rows that all samples share (class texts, prototypes): logits [N, C].

    pooled[i, c] = score(a_i, b_c) / temperature. The second input has no sample axis: a static field, an
    encoder of one, or the class vectors of a batch node.
    """

    example: ClassVar[str] = "{use: scores, of: [image, names], score: cosine, temperature: 0.01}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of a row and a class")
    temperature: Annotated[Value, Bounds(gt=0)] = default(1.0, description="divisor of the scores")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        rows, columns = inputs
        if columns.axes[:1] == ("sample",):
            raise ComponentError(
                "scores needs a second input that is the same for every sample",
                found="an input with the axis 'sample'",
                hint="give it a static field, such as class names; for pairs of samples use a contrastive loss",
            )
        return {"pooled": TensorType("logits", rows.axes, (None,), groups=rows.groups)}

    def apply(self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor) -> Tensor:
        found = score.blocks(a, b)
        return (found[0] if isinstance(found, tuple) else found) / temperature
