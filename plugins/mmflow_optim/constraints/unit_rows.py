"""Rows of length one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Constraint

if TYPE_CHECKING:
    from torch import Tensor


class UnitRows(Constraint, name="unit_rows"):
    """Rows (along the last axis) of Euclidean length one, as the prototypes of SwAV (Caron et al., 2020).

    A row of zeros stays as it is.
    """

    least_axes: ClassVar[int] = 2
    example: ClassVar[str] = "constrain: unit_rows"

    def project(self, weights: Tensor) -> Tensor:
        from torch.nn.functional import normalize

        return normalize(weights, dim=-1)
