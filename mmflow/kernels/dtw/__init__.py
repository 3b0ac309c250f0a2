"""Dynamic time warping and its smooth form, for batches of cost matrices and for all pairs of sequences."""

from typing import Literal

import torch
from torch import Tensor

from ..dispatch import Backend, choose


def soft_dtw(
    cost: Tensor,
    gamma: float = 1.0,
    x_lengths: Tensor | None = None,
    y_lengths: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Smooth minimum over monotone alignments of their summed cost (Cuturi and Blondel, 2017).

        R[i, j] = cost[i, j] + softmin(R[i-1, j], R[i, j-1], R[i-1, j-1]),  softmin(v) = -gamma log sum exp(-v / gamma)

    gamma = 0 is dynamic time warping (Sakoe and Chiba, 1978): the minimum, with the gradient along one optimal path (of
    equal predecessors the diagonal, then i-1, then j-1).

    Args:
        cost: [..., T, U], any floating dtype.
        gamma: >= 0, in units of the cost.
        x_lengths, y_lengths: int64 [...] or broadcastable, 1..T and 1..U; R is read there. By default T and U.

    Returns:
        [...], float32 (float64 for float64 costs). Gradient for cost: the expected alignment times the incoming one.

    Cost: T + U - 1 steps over anti-diagonals for the whole batch, forward and backward recursions in one sweep, in
    float64 on the CPU. Memory: the alignment (as large as cost) where a gradient is asked, and tiles.
    """
    lengths = _lengths(cost, gamma, x_lengths, y_lengths)
    flat = cost.reshape(-1, *cost.shape[-2:])
    form = choose("soft_dtw", cost, backend=backend, without_triton=_obstacle(gamma))
    with torch.autocast(cost.device.type, enabled=False):
        return _run(form).soft_dtw(flat, float(gamma), *lengths).view(cost.shape[:-2])


@torch.no_grad()
def alignment(
    cost: Tensor,
    gamma: float = 1.0,
    x_lengths: Tensor | None = None,
    y_lengths: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """How likely each cell lies on the alignment: [..., T, U]; 0 or 1, one optimal path, where gamma = 0.

    It is the gradient of `soft_dtw` with respect to the cost. Arguments and cost as there.
    """
    with torch.enable_grad():
        leaf = cost.detach().requires_grad_()
        total = soft_dtw(leaf, gamma, x_lengths, y_lengths, backend=backend).sum()
        return torch.autograd.grad(total, leaf)[0]


def pair_soft_dtw(
    x: Tensor,
    y: Tensor,
    gamma: float = 1.0,
    x_lengths: Tensor | None = None,
    y_lengths: Tensor | None = None,
    *,
    metric: Literal["sqeuclidean", "dot"] = "sqeuclidean",
    backend: str | None = None,
) -> Tensor:
    """`soft_dtw` between every sequence of x and every sequence of y.

    Args:
        x: [N, T, D]. y: [M, U, D]. Any floating dtype; mixed dtypes are promoted.
        gamma: >= 0.
        x_lengths: int64 [N]. y_lengths: int64 [M].
        metric: cost of two frames, |x - y|^2 or 1 - <x, y>.

    Returns:
        [N, M], float32 (float64 for float64 inputs). Gradients for x and y.

    Cost: 2 N M T U D FLOP for the costs and as much for each gradient, and the recursions of `soft_dtw`. Memory: tiles;
    costs and alignments of all pairs (N M T U) are not stored beyond 16 MB.
    """
    if x.dim() != 3 or y.dim() != 3 or x.shape[2] != y.shape[2] or not x.numel() or not y.numel():
        raise ValueError(
            f"pair_soft_dtw: sequences are [N, T, D] and [M, U, D] and not empty, got {list(x.shape)}, {list(y.shape)}"
        )
    if metric not in ("sqeuclidean", "dot"):
        raise ValueError(f"pair_soft_dtw: metric is {metric!r}; known are sqeuclidean, dot")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    rows = _checked("x_lengths", x_lengths, len(x), x.shape[1], x.device)
    columns = _checked("y_lengths", y_lengths, len(y), y.shape[1], x.device)
    if gamma < 0:
        raise ValueError(f"pair_soft_dtw: gamma is {gamma}; it is >= 0")
    form = choose("pair_soft_dtw", x, y, backend=backend, without_triton=_obstacle(gamma))
    with torch.autocast(x.device.type, enabled=False):
        return _run(form).pair_soft_dtw(x, y, float(gamma), rows, columns, metric)


def _run(form: Backend):
    if form == "triton":
        from . import fused

        return fused
    if form == "chunked":
        from . import chunked

        return chunked
    from . import reference

    return reference


def _obstacle(gamma: float) -> str:
    return "gamma = 0 has no triton form" if gamma == 0 else ""


def _lengths(cost: Tensor, gamma: float, x_lengths: Tensor | None, y_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if cost.dim() < 2 or not cost.numel() or not cost.is_floating_point():
        raise ValueError(f"soft_dtw: cost is [..., T, U], floating and not empty, got {cost.dtype} {list(cost.shape)}")
    if gamma < 0:
        raise ValueError(f"soft_dtw: gamma is {gamma}; it is >= 0")
    batch = cost.shape[:-2]
    out = []
    for name, given, size in (("x_lengths", x_lengths, cost.shape[-2]), ("y_lengths", y_lengths, cost.shape[-1])):
        if given is not None:
            given = given.to(cost.device).expand(batch).reshape(-1)
        out.append(_checked(name, given, batch.numel(), size, cost.device))
    return out[0], out[1]


def _checked(name: str, given: Tensor | None, count: int, size: int, device: torch.device) -> Tensor:
    if given is None:
        return torch.full((count,), size, dtype=torch.int64, device=device)
    if given.shape != (count,) or given.is_floating_point():
        raise ValueError(f"soft_dtw: {name} are integers [{count}], got {given.dtype} {list(given.shape)}")
    if int(given.min()) < 1 or int(given.max()) > size:
        raise ValueError(f"soft_dtw: {name} lie in 1..{size}, got {int(given.min())}..{int(given.max())}")
    return given.to(device, torch.int64)
