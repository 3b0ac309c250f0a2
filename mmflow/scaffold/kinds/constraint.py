"""A constraint of one's own: a set in which weights stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Constraint

if TYPE_CHECKING:
    from torch import Tensor


class CLASS(Constraint, name="NAME"):
    """Rows whose numbers add up to zero.

    Say here what the set is.
    """

    least_axes: ClassVar[int] = 2
    example: ClassVar[str] = "{use: linear, of: body, dim: 32, constrain: NAME}"

    def project(self, weights: Tensor) -> Tensor:
        """The nearest point of the set, of the same shape."""
        return weights - weights.mean(-1, keepdim=True)
