"""Random runs of places."""

from __future__ import annotations

from typing import Any


def runs(count: int, wanted: int, mean: float, generator: Any) -> list[bool]:
    """`wanted` of `count` places, in runs of geometric lengths of that mean at random places."""
    chosen = [False] * count
    while (missing := wanted - sum(chosen)) > 0:
        length = min(int(generator.geometric(1 / mean)), missing)
        start = int(generator.integers(count))
        chosen[start : start + length] = [True] * len(chosen[start : start + length])
    return chosen
