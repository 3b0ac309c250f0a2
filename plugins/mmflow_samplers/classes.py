"""Samples by class: the members of each class, and drawing from a class again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmflow.plugin import ComponentError

LABELS = ("label", "number", "text", "id")


def members(labels: Sequence[Any], use: str) -> dict[Any, list[int]]:
    """Indices of each label, labels in sorted order; samples without one are left out."""
    found: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        if label is not None:
            found.setdefault(label, []).append(index)
    if not found:
        raise ComponentError(f"the column of the sampler {use} holds no value at all")
    return dict(sorted(found.items(), key=lambda item: (str(type(item[0])), item[0])))


class Queue:
    """Goes through the members of a class in random order, again and again, each time in a new one."""

    def __init__(self, indices: Sequence[int], generator: Any) -> None:
        self.indices, self.generator = indices, generator
        self._left: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next members; all different while the class has so many."""
        taken: list[int] = []
        while len(taken) < count:
            if not self._left:
                # Not those already in this batch first, where there are others.
                order = self.generator.permutation(self.indices).tolist()
                self._left = sorted(order, key=lambda index: index in taken)
            taken.append(self._left.pop(0))
        return taken
