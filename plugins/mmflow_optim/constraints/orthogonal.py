"""Orthonormal rows or columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Constraint

if TYPE_CHECKING:
    from torch import Tensor


class Orthogonal(Constraint, name="orthogonal"):
    """Matrices with orthonormal rows, or columns where there are more rows than columns: the nearest such matrix.

    It is U V^T of the singular value decomposition U S V^T (the polar factor; Higham, 1986). A parameter of more than
    two axes is a matrix of its first axis by all others.
    """

    least_axes: ClassVar[int] = 2
    example: ClassVar[str] = "constrain: orthogonal"

    def project(self, weights: Tensor) -> Tensor:
        import torch

        matrix = weights.flatten(1)
        exact = matrix if matrix.dtype is torch.float64 else matrix.float()
        left, _, right = torch.linalg.svd(exact, full_matrices=False)
        return (left @ right).to(weights.dtype).reshape(weights.shape)
