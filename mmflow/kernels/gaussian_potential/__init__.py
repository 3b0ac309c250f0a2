"""Uniformity: how evenly vectors cover their space."""

import torch
from torch import Tensor

from ..dispatch import choose
from ..inputs import positive


def uniformity(x: Tensor, t: float = 2.0, *, present: Tensor | None = None, backend: str | None = None) -> Tensor:
    """Log of the mean Gaussian potential over pairs of different rows (Wang and Isola, 2020).

        log mean_{i != j} exp(-t |x_i - x_j|^2)

    Args:
        x: [N, D], usually normalized. float32, bfloat16, float16 or float64.
        t: > 0.
        present: bool [N]; absent rows are left out.

    Returns:
        [], float32 (float64 for float64 inputs); 0 without gradient where fewer than two rows are present. Gradient
        for x.

    Cost: half of the pairs' products once (N^2 D FLOP) and the gradient in the same pass (2 N^2 D), the potential being
    known up to a factor until the end. Memory: a tile of 4 MB and the gradient twice. The Triton form has all pairs'
    products in the forward and once more, with the gradient, in the backward, which holds a strip of pairs of 64 MB (at
    least 128 rows).
    """
    if x.dim() != 2 or not x.numel():
        raise ValueError(f"uniformity: x is [N, D] and not empty, got {list(x.shape)}")
    positive("uniformity", t, "t")
    if present is not None:
        if present.dtype != torch.bool or present.shape != (len(x),):
            raise ValueError(f"uniformity: present is bool [{len(x)}], got {present.dtype} {list(present.shape)}")
        x = x[present]
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if len(x) < 2:
        return x.sum() * 0.0
    form = choose("uniformity", x, backend=backend)
    with torch.autocast(x.device.type, enabled=False):
        if form == "reference":
            from .reference import uniformity as reference

            return reference(x, t)
        if form == "triton":
            from .fused import uniformity as run
        else:
            from .chunked import uniformity as run
        return run(x, t)
