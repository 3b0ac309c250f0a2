"""k-means: assignment of rows to their nearest center, seeding, and Lloyd's iteration with restarts."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..dispatch import choose
from .lloyd import lloyd


class Clusters(NamedTuple):
    """The best of the restarts.

    Attributes:
        centers: [k, D]. labels: int64 [N], the nearest center of each row. inertia: [], sum of squared distances (for
            `spherical`, of 2 - 2 cosine). iterations: of the restart that won.
    """

    centers: Tensor
    labels: Tensor
    inertia: Tensor
    iterations: int


@torch.no_grad()
def nearest_center(x: Tensor, centers: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Index int64 [N] of the nearest row of centers [K, D] for each row of x [N, D], and its squared distance [N].

    Equal distances go to the lower index. Cost: 2 N K D FLOP and one read of each product. Memory: one tile (4 MB); on
    a GPU products stay in registers.
    """
    x, centers = _checked("nearest_center", x, centers)
    form = choose("nearest_center", x, centers, backend=backend)
    if form == "triton":
        from .fused import nearest_center as run
    elif form == "chunked":
        from .chunked import nearest_center as run
    else:
        from .reference import nearest_center as run
    with torch.autocast(x.device.type, enabled=False):
        return run(x, centers)


@torch.no_grad()
def kmeans(
    x: Tensor,
    k: int,
    *,
    iterations: int = 100,
    restarts: int = 1,
    tolerance: float = 1e-4,
    spherical: bool = False,
    seeds: Tensor | None = None,
    generator: torch.Generator | None = None,
    backend: str | None = None,
) -> Clusters:
    """Lloyd's k-means from k-means++ seeds (Lloyd, 1982; Arthur and Vassilvitskii, 2007).

    A center that lost all its rows moves to the row farthest from its center, the next such center to the next
    farthest.

    Args:
        x: [N, D], any floating dtype. k: 1..N.
        iterations: at most so many; stops when the centers' squared movement falls below `tolerance` times the
            variance of x.
        restarts: runs from different seeds, the smallest inertia wins (the first of equal ones).
        spherical: rows and centers are normalized (cosine k-means).
        seeds: [k, D], centers to start from instead; restarts is then 1.
        generator: of the draws, on the CPU; by default a fresh one with seed 0, so that equal calls give equal results.

    Returns:
        Clusters, float32 (float64 for float64 inputs). No gradient.

    Cost: per iteration 2 N k D FLOP and one gather of the rows by cluster. Memory: tiles, and the sorted order of rows.
    """
    x, _ = _checked("kmeans", x, x)
    if not 1 <= k <= len(x):
        raise ValueError(f"kmeans: k is {k}; it is between 1 and the {len(x)} rows")
    if restarts < 1 or iterations < 1:
        raise ValueError(f"kmeans: restarts is {restarts} and iterations {iterations}; both are at least 1")
    if seeds is not None:
        if seeds.shape != (k, x.shape[1]):
            raise ValueError(f"kmeans: seeds are [{k}, {x.shape[1]}], got {list(seeds.shape)}")
        restarts = 1
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if spherical:
        x = torch.nn.functional.normalize(x, dim=1)
    nearest = partial(nearest_center, backend=backend)
    best: Clusters | None = None
    with torch.autocast(x.device.type, enabled=False):
        for _ in range(restarts):
            found = lloyd(x, k, iterations, tolerance, spherical, seeds, generator, nearest)
            if best is None or bool(found[2] < best.inertia):
                best = Clusters(*found)
    assert best is not None
    return best


def _checked(name: str, x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    if x.dim() != 2 or centers.dim() != 2 or x.shape[1] != centers.shape[1] or not x.numel() or not centers.numel():
        raise ValueError(
            f"{name}: rows are [N, D], centers [K, D], not empty; got {list(x.shape)}, {list(centers.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, centers.dtype), torch.float32)
    return x.detach().to(dtype), centers.detach().to(dtype)
