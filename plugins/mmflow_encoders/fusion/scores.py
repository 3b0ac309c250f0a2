"""Scores as logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import Bounds, ComponentError, Encoded, Encoder, Refs, Score, TensorType, Value, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Scores(Encoder, name="scores"):
    """Scores of each row with classes (class texts, prototypes): logits [N, C].

    pooled[i, c] = score(a_i, b_c) / temperature. The second input has no sample axis, so that all samples share it: a
    static field, an encoder of one, or the class vectors of a batch node. Or each sample has classes of its own, along
    the group axis `class` (such as prompts that depend on the sample): pooled[i, c] = score(a_i, b_ic) / temperature.
    """

    axes: ClassVar[tuple[str, ...]] = ("class",)
    example: ClassVar[str] = "{use: scores, of: [image, names], score: cosine, temperature: 0.01}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of a row and a class")
    temperature: Annotated[Value, Bounds(gt=0)] = default(1.0, description="divisor of the scores")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        rows, columns = inputs
        own = columns.axes == (*rows.axes, "class")
        if not columns.static and not own:
            raise ComponentError(
                "scores needs a second input that is the same for every sample, or has the axis 'class'",
                found=f"an input with the axes {', '.join(columns.axes)}",
                hint="give it a static field, such as class names; for pairs of samples use a contrastive loss",
            )
        classes = columns.groups[-1] if own and columns.groups else None
        return {"pooled": TensorType("logits", rows.axes, (classes,), groups=rows.groups)}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        return inputs[0].present

    def apply(self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor) -> Tensor:
        if b.axes[-1:] == ("class",) and len(b.axes) > 1:
            rows = len(b)
            members = b.map(lambda x: x.flatten(0, 1))
            classes = len(members) // max(1, rows)
            repeated = a.map(lambda x: x.repeat_interleave(classes, dim=0))
            return score.pairs(repeated, members).view(rows, classes) / temperature
        found = score.blocks(a, b)
        return (found[0] if isinstance(found, tuple) else found) / temperature
