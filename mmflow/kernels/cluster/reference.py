"""Nearest centers by their definition."""

from torch import Tensor


def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    distance = (x[:, None] - centers[None]).square().sum(2)
    best = distance.argmin(1)
    return best, distance.gather(1, best[:, None]).squeeze(1)
