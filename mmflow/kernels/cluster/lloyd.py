"""Seeding and Lloyd's iteration."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .chunked import sums_by_cluster

Nearest = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From rows and centers to the index of each row's nearest center and the squared distance."""


def lloyd(
    x: Tensor,
    k: int,
    iterations: int,
    tolerance: float,
    spherical: bool,
    seeds: Tensor | None,
    generator: torch.Generator,
    nearest: Nearest,
) -> tuple[Tensor, Tensor, Tensor, int]:
    enough = tolerance * _variance(x)
    centers = plus_plus(x, k, generator) if seeds is None else seeds.to(x)
    if spherical:
        centers = torch.nn.functional.normalize(centers, dim=1)
    done = 0
    labels, distance = nearest(x, centers)
    for done in range(1, iterations + 1):  # noqa: B007
        sums, counts = sums_by_cluster(x, labels, k)
        new = sums / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().squeeze(1)
        if len(empty):
            new[empty] = x[distance.sort(descending=True, stable=True).indices[: len(empty)]]
        if spherical:
            new = torch.nn.functional.normalize(new, dim=1)
        moved = float((new - centers).square().sum())
        before, centers = labels, new
        labels, distance = nearest(x, centers)
        if moved <= enough or torch.equal(before, labels):
            break
    return centers, labels, distance.sum(), done


def _variance(x: Tensor) -> float:
    """Mean over the features, in blocks of rows: `var` over an outer axis is slow."""
    middle = x.mean(0)
    total = torch.stack([(rows - middle).square_().sum() for rows in x.split(4096)]).sum()
    variance = float(total) / x.numel()
    if not math.isfinite(variance):
        raise ValueError("kmeans: x holds NaN or infinity")
    return variance


def plus_plus(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k rows, each drawn with probability proportional to its squared distance from those drawn before.

    Of 2 + ln k draws per center the one that lowers the sum of distances most is taken (greedy k-means++).
    """
    trials = 2 + int(torch.tensor(float(k)).log())
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    nearest = (x - x[chosen[0]]).square().sum(1)
    norms = (x * x).sum(1)
    while len(chosen) < k:
        steps = nearest.double().cumsum(0)
        points = torch.rand(trials, generator=generator, dtype=torch.float64).to(x.device) * steps[-1]
        drawn = torch.searchsorted(steps, points, right=True).clamp_max(len(x) - 1)
        distance = (norms[:, None] + norms[drawn] - 2 * (x @ x[drawn].T)).clamp_min_(0.0)
        candidates = torch.minimum(nearest[:, None], distance)
        best = int(candidates.sum(0).argmin())
        chosen.append(int(drawn[best]))
        nearest = candidates[:, best]
        nearest[chosen[-1]] = 0.0
    return x[chosen]
