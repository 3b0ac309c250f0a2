"""Sums over the rows and columns of a score matrix that arrives tile by tile: what is wanted, found and sent back."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Want(NamedTuple):
    """Which sums a loss needs, per direction.

    `apart`: positives lie on the diagonal, and their exponentials are left out of the log-sum-exp.
    """

    rows: bool
    columns: bool
    target: bool
    total: bool = False
    inside: bool = False
    apart: bool = False


class Sums(NamedTuple):
    """One direction's sums, one value per row (or column), in `precise_dtype`; None where not asked.

    Attributes:
        lse: log of the (weighted) sum of exponentials over the pairs that are not excluded (nor positive, `apart`);
            -inf where there is none.
        target: sum of the scores of positives, or the score expected under soft targets.
        total: sum of the scores that are not excluded.
        inside: log of the sum of exponentials over positives; -inf where there is none.
        allowed: how many pairs are not excluded.
        positives: how many pairs are positive.
    """

    lse: Tensor
    target: Tensor | None
    total: Tensor | None
    inside: Tensor | None
    allowed: Tensor
    positives: Tensor

    def joined(self, want: Want) -> "Sums":
        """With the positives in the log-sum-exp, where they were summed apart."""
        if not want.apart or self.target is None:
            return self
        return self._replace(lse=torch.where(self.positives > 0, torch.logaddexp(self.lse, self.target), self.lse))


class Arriving(NamedTuple):
    """Values that come back to one direction's sums: `Stream.norms` of the forward, the gradients of four sums."""

    norm: Tensor
    inside: Tensor | None
    grads: tuple[Tensor | None, ...]
    """Of lse, target, total and inside."""


def arriving_at(norm: Tensor | None, inside: Tensor | None, grads: Sequence[Tensor | None]) -> Arriving | None:
    """None where a direction was not asked for or nothing comes back to it."""
    return None if norm is None or all(g is None for g in grads) else Arriving(norm, inside, tuple(grads))


def both_sides(flat: Sequence[Tensor], want: Want) -> tuple[Sums | None, Sums | None]:
    """The sums of rows and of columns from the twelve tensors that a core's function returns."""
    sides = [
        Sums(*flat[6 * k : 6 * k + 6]).joined(want) if wanted else None
        for k, wanted in enumerate((want.rows, want.columns))
    ]
    return sides[0], sides[1]
