"""Applications of weights that another encoder owns: `same`, `copy`, `ema`, `frozen`.

Weights and applications are two things. Each of these encoders names in `weights` whose structure it takes;
`of` says what it is applied to and defaults to the input of that encoder.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mmflow.plugin.component import default
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.numbers import Value
from mmflow.plugin.references import Encoded, Parameters, Pooled, RawField, Ref, Refs


class Application(Encoder):
    """Base of the four: never used by itself."""

    weights: Ref[Encoded | Parameters]
    of: Refs[Pooled | RawField] = ()


class Same(Application, name="same"):
    """The very weights of another encoder, applied to another input."""

    example: ClassVar[str] = "{use: same, weights: image, of: negative}"


class Copy(Application, name="copy"):
    """Weights of its own, equal in structure to another encoder's and drawn at its own address."""

    example: ClassVar[str] = "{use: copy, weights: image, of: two.1}"

    start: Literal["own", "equal"] = Field("own", description="equal: begin with the values of the other's weights")


class Ema(Application, name="ema"):
    """Exponential moving average of another encoder's weights (a momentum encoder; He et al., 2020).

    `w' = momentum * w + (1 - momentum) * w_other`, after each optimizer step, or before each forward pass;
    it starts equal to the other's weights and carries no gradient. Buffers (running statistics) are its own,
    copied from the other, or averaged like the weights.
    """

    example: ClassVar[str] = "{use: ema, weights: image, momentum: 0.996, when: before_forward}"

    momentum: Value = default(0.996)
    when: Literal["after_step", "before_forward"] = "after_step"
    buffers: Literal["own", "copy", "average"] = "own"


class Frozen(Application, name="frozen"):
    """Another encoder's weights as they are when the stage begins, without gradient (`weights: fit.image`)."""

    example: ClassVar[str] = "{use: frozen, weights: fit.image}"
