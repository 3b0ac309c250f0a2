"""Applications of weights that another encoder owns: `same`, `copy`, `ema`, `frozen`.

Weights and applications are two things. Each of these encoders names in `weights` the encoder whose structure it
takes; `of` says what it is applied to.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mmflow.plugin.kinds import Application
from mmflow.plugin.marks import default
from mmflow.plugin.numbers import Bounds, Scheduled


class Same(Application, name="same"):
    """The very weights of another encoder, applied to another input."""

    shares: ClassVar[Literal["module", "structure"]] = "module"
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

    trains: ClassVar[bool] = False
    follows: ClassVar[bool] = True
    example: ClassVar[str] = "{use: ema, weights: image, momentum: 0.996, when: before_forward}"

    momentum: Annotated[Scheduled, Bounds(ge=0, le=1)] = default(0.996)
    when: Literal["after_step", "before_forward"] = "after_step"
    buffers: Literal["own", "copy", "average"] = "own"


class Frozen(Application, name="frozen"):
    """Another encoder's weights as they are when the stage begins, without gradient (`weights: fit.image`)."""

    trains: ClassVar[bool] = False
    example: ClassVar[str] = "{use: frozen, weights: fit.image}"
