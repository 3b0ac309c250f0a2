"""One member of a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType, Transform


class Choose(Transform, name="choose"):
    """One member of the first group axis (one of several captions), drawn at random; the first in evaluation.

    Adds `chosen`: the number of the member in the group.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"chosen": TensorType("index", dtype="int64")}
    example: ClassVar[str] = "views: {caption: {of: captions, apply: [choose]}}"

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("choose takes one field: give it a view of its own")
        members = [place for place, member in enumerate(value) if member is not None]
        if not members:
            return None, {"chosen": None}
        chosen = members[0 if generator is None else int(generator.integers(len(members)))]
        return value[chosen], {"chosen": chosen}

    def result(self, field: TensorType) -> TensorType:
        if len(field.axes) < 2:
            raise ValueError("choose needs a field with a group axis (several captions a sample)")
        return field.with_(axes=(field.axes[0], *field.axes[2:]), groups=field.groups[1:])
