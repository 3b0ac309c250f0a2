"""Balanced assignment of rows to columns by Sinkhorn's iteration, held as potentials."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..dispatch import choose
from ..inputs import positive


class Potentials(NamedTuple):
    """A transport plan in short: plan[i, j] = exp((score[i, j] + rows[i] + columns[j]) / epsilon).

    Attributes:
        rows: [..., N]. columns: [..., M]. -inf where the marginal is 0.
        epsilon: the temperature.
    """

    rows: Tensor
    columns: Tensor
    epsilon: float


@torch.no_grad()
def sinkhorn(
    x: Tensor,
    y: Tensor | None = None,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    backend: str | None = None,
) -> Potentials:
    """Potentials of the plan that maximizes <plan, score> + epsilon entropy(plan) under given marginals.

    Each iteration balances the columns and then the rows (Cuturi, 2013; as codes: Caron et al., 2020), so that rows
    are exact at every stop. The result equals that of the log-domain iteration, at any epsilon.

    Args:
        x: scores [..., N, M]; or, with y, features [N, D] whose scores are <x_i, y_j>.
        y: features [M, D], or None.
        epsilon: > 0, in units of the score.
        iterations: >= 1.
        row_marginal: [..., N], >= 0. column_marginal: [..., M], >= 0, of equal totals. By default 1/N and 1/M.

    Returns:
        Potentials, float32 (float64 for float64 inputs). No gradient (codes are targets).

    Cost: where the scores span at most 41 epsilon and take at most 64 MB (16 MB where features are given), one
    exponential a pair and two reads of the exponentiated scores per iteration, which are kept: memory as large as the
    scores. Otherwise one read of the scores and one exponential a pair per iteration, and one more of each to begin;
    with features the scores are computed again in every iteration, 2 N M D FLOP. Memory is then tiles of 4 MB (and what
    is as long as a marginal), nothing of size N x M. The Triton form reads or computes the scores twice per iteration
    and keeps none.
    """
    positive("sinkhorn", epsilon, "epsilon")
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations is {iterations}; at least one is needed")
    shape = _shape(x, y)
    dtype = _dtype(x, y)
    marginals = []
    for name, given, other, size in (
        ("row_marginal", row_marginal, x, shape[-2]),
        ("column_marginal", column_marginal, x, shape[-1]),
    ):
        if given is None:
            marginals.append(torch.full((*shape[:-2], size), 1 / size, dtype=dtype, device=other.device))
            continue
        if given.shape[-1:] != (size,):
            raise ValueError(f"sinkhorn: {name} is [..., {size}], got {list(given.shape)}")
        marginals.append(given.to(x.device, dtype).expand(*shape[:-2], size))
    a, b = marginals
    if row_marginal is not None or column_marginal is not None:
        if bool((a < 0).any()) or bool((b < 0).any()):
            raise ValueError("sinkhorn: a marginal has negative entries")
        if not torch.allclose(a.sum(-1), b.sum(-1), rtol=1e-3):
            raise ValueError(
                f"sinkhorn: the marginals' totals differ: {a.sum(-1).flatten()[0]:.6g} of rows, "
                f"{b.sum(-1).flatten()[0]:.6g} of columns"
            )
    count = math.prod(shape[:-2])
    obstacle = f"{count} score matrices are more than a grid of 65535" if count > 65535 else ""
    form = choose("sinkhorn", x, y, backend=backend, without_triton=obstacle)
    with torch.autocast(x.device.type, enabled=False):
        if form == "triton":
            from .fused import sinkhorn as fused

            f, g = fused(x, y, a, b, epsilon, iterations)
        elif form == "chunked":
            from .chunked import sinkhorn as chunked

            f, g = chunked(x, y, a, b, epsilon, iterations)
        else:
            from .reference import sinkhorn as reference

            f, g = reference(x.to(dtype), None if y is None else y.to(dtype), a, b, epsilon, iterations)
    return Potentials(f, g, epsilon)


@torch.no_grad()
def assignment(x: Tensor, y: Tensor | None, potentials: Potentials, rows: slice = slice(None)) -> Tensor:
    """The rows of the plan as distributions over columns, computed from the potentials.

    Args:
        x, y: the scores or features that the potentials were computed from.
        rows: which rows.

    Returns:
        [..., n, M], each row the plan's row divided by its sum: it sums to 1 exactly, whatever the marginal.
    """
    _shape(x, y)
    dtype = _dtype(x, y)
    with torch.autocast(x.device.type, enabled=False):
        scores = x[..., rows, :].to(dtype) if y is None else x[rows].to(dtype) @ y.to(dtype).T
        exponents = (scores + potentials.columns.unsqueeze(-2)).div_(potentials.epsilon)
        # in place: fresh memory of this size costs page faults
        top = exponents.amax(-1, keepdim=True)
        share = exponents.sub_(torch.where(top.isinf(), 0.0, top)).exp_()
        return share.div_(share.sum(-1, keepdim=True))


def _shape(x: Tensor, y: Tensor | None) -> tuple[int, ...]:
    if y is None:
        if x.dim() < 2 or not x.numel():
            raise ValueError(f"sinkhorn: scores are [..., N, M] and not empty, got {list(x.shape)}")
        return tuple(x.shape)
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not x.numel() or not y.numel():
        raise ValueError(
            f"sinkhorn: features are [N, D] and [M, D] and not empty, got {list(x.shape)}, {list(y.shape)}"
        )
    return len(x), len(y)


def _dtype(x: Tensor, y: Tensor | None) -> torch.dtype:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return dtype if y is None else torch.promote_types(dtype, y.dtype)
