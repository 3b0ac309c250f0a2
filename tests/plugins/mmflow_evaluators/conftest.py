"""Scores that need no plugin, so that the evaluators are tested alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmflow.plugin import Encoding, Score


class Dot(Score, name="dot_of_tests"):
    """a . b"""

    def blocks(self, a: Encoding, b: Encoding) -> Any:
        return a.pooled @ b.pooled.T


class OneSided(Score, name="one_sided_of_tests"):
    """a . b forward; backward the negative: two directions that differ."""

    def blocks(self, a: Encoding, b: Encoding) -> Any:
        forward = a.pooled @ b.pooled.T
        return forward, -forward.T


class Table(Score, name="table_of_tests"):
    """a . b, counting how many scores exist at a time."""

    largest: list[int] = []

    def blocks(self, a: Encoding, b: Encoding) -> Any:
        self.largest.append(len(a) * len(b))
        return a.pooled @ b.pooled.T


ORACLES = Path(__file__).parents[4] / "shared" / "oracles"


@pytest.fixture
def oracle() -> Any:
    """Reads one call of a published implementation, such as `094-dynamic-reflections/alignment_metrics`."""

    def read(name: str) -> Any:
        path = ORACLES / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"{name} is not here")
        return np.load(path, allow_pickle=False)

    return read


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def dot() -> Dot:
    return Dot()


@pytest.fixture
def one_sided() -> OneSided:
    return OneSided()


@pytest.fixture
def table() -> Table:
    return Table(largest=[])
