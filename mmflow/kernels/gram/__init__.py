"""Gram volume: how far k vectors are from lying in one direction, for all pairs of an anchor and a tuple."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..dispatch import Backend, choose
from ..inputs import positive


def gram_volume(
    anchor: Tensor, others: Tensor | Sequence[Tensor], *, eps: float = 1e-8, backend: str | None = None
) -> Tensor:
    """Volume of the parallelotope spanned by anchor i and the vectors of tuple j (GRAM: Cicchetti et al., 2025).

        volume[i, j] = sqrt(max(det Gram(anchor_i, others_j1, ..., others_jr), eps))

    The determinant is never formed: each tuple is orthonormalized once, and
    det = vol(others_j)^2 (|a_i|^2 - sum_m <a_i, q_jm>^2), which is also the more accurate.

    Args:
        anchor: [N, D]. others: [M, R, D] or R tensors [M, D], R = 1..4 (k = R + 1 modalities). Any floating dtype.
            Vectors are not normalized here (the method normalizes them).
        eps: floor of the determinant; pairs below it get no gradient.

    Returns:
        [N, M], float32 (float64 for float64 inputs). Gradients for anchor and others. Smaller is more alike.

    Cost: 2 N M R D FLOP forward, three times that backward. Memory: the result, and projections up to 16 MB.
    """
    x, y = _inputs("gram_volume", anchor, others)
    form = choose("gram_volume", x, backend=backend)
    with torch.autocast(x.device.type, enabled=False):
        if form == "reference":
            from .reference import gram_volume as reference

            return reference(x, y, eps)
        return _run(form).gram_volume(x, *orthonormal(y), eps)


def gram_contrast(
    anchor: Tensor,
    others: Tensor | Sequence[Tensor],
    *,
    temperature: float | Tensor = 0.07,
    label_smoothing: float = 0.0,
    present: Tensor | None = None,
    reduction: Literal["mean", "none"] = "mean",
    eps: float = 1e-8,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Symmetric contrastive loss over -gram_volume / temperature: anchor i matches tuple i (Cicchetti et al., 2025).

    Args:
        anchor, others, eps: as in `gram_volume`, N = M.
        temperature: > 0, a number or a tensor [] (learned).
        label_smoothing: share of the target spread evenly over all candidates (the method: 0.1).
        present: bool [N]; absent rows are left out, as rows, as columns and of the mean.
        reduction: "mean" gives the mean of the two directions' means, "none" the losses ([N], [N]) themselves.

    Returns:
        [] or ([N], [N]); float32 (float64 for float64 inputs). Gradients for anchor, others and temperature.

    Cost: that of `gram_volume`; tiles are computed a second time in the backward unless they fit into 16 MB. No N x M
    matrix is stored.
    """
    x, y = _inputs("gram_contrast", anchor, others)
    if len(x) != len(y):
        raise ValueError(f"gram_contrast: {len(x)} anchors and {len(y)} tuples; anchor i matches tuple i")
    if present is not None and (present.dtype != torch.bool or present.shape != (len(x),)):
        raise ValueError(f"gram_contrast: present is bool [{len(x)}], got {present.dtype} {list(present.shape)}")
    positive("gram_contrast", temperature)
    scale = torch.as_tensor(temperature, dtype=x.dtype, device=x.device)
    form = choose("gram_contrast", x, backend=backend)
    with torch.autocast(x.device.type, enabled=False):
        if form == "reference":
            from .reference import gram_contrast as reference

            rows, columns = reference(x, y, eps, scale, label_smoothing, present)
        else:
            rows, columns = _run(form).gram_contrast(x, *orthonormal(y), eps, scale, label_smoothing, present)
    if reduction == "none":
        return rows, columns
    return (rows + columns).sum() / (2 * (len(x) if present is None else present.sum().clamp_min(1)))


def orthonormal(others: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [M, R, D] of each tuple's span and its squared volume [M].

    Gram and Schmidt's elimination, each projection done twice (Giraud et al., 2005). A vector that depends on those
    before it becomes 0, and the volume 0.
    """
    basis: list[Tensor] = []
    squared = others.new_ones(len(others))
    tiny = 16 * torch.finfo(others.dtype).eps ** 2
    for vector in others.unbind(1):
        rest = vector
        for _ in range(2):
            for q in basis:
                rest = rest - (rest * q).sum(1, keepdim=True) * q
        length = (rest * rest).sum(1)
        free = length > tiny * (vector.detach() ** 2).sum(1)
        squared = squared * torch.where(free, length, 0.0)
        basis.append(torch.where(free[:, None], rest * torch.where(free, length, 1.0).rsqrt()[:, None], 0.0))
    return torch.stack(basis, 1), squared


def _run(form: Backend):
    if form == "triton":
        from . import fused

        return fused
    from . import chunked

    return chunked


def _inputs(name: str, anchor: Tensor, others: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if not isinstance(others, Tensor):
        shapes = {tuple(t.shape) for t in others}
        if len(shapes) != 1:
            raise ValueError(f"{name}: the other modalities have one shape [M, D], got {sorted(shapes)}")
        others = torch.stack(list(others), 1)
    if anchor.dim() != 2 or others.dim() != 3 or anchor.shape[1] != others.shape[2]:
        raise ValueError(
            f"{name}: anchor is [N, D] and others [M, R, D] or R tensors [M, D]; "
            f"got {list(anchor.shape)} and {list(others.shape)}"
        )
    if not anchor.numel() or not others.numel():
        raise ValueError(f"{name}: empty input: anchor {list(anchor.shape)}, others {list(others.shape)}")
    if others.shape[1] > 4:
        raise ValueError(f"{name}: {others.shape[1] + 1} modalities; 2 to 5 are supported")
    dtype = torch.promote_types(torch.promote_types(anchor.dtype, others.dtype), torch.float32)
    return anchor.to(dtype), others.to(dtype)
