"""A choice among transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.numbers import Number


class OneOf(Transform, name="one_of"):
    """One of several transforms, drawn for each sample, or for each batch where they mix its rows (mixup or cutmix).

    They must give the same declared types. With probability `1 - p`, and in evaluation, the deterministic form of the
    first applies. Adds the fields that the transforms add, absent where another was drawn, and `which`: the number of
    the drawn transform, -1 for none.
    """

    example: ClassVar[str] = "views: {mixed: {of: [image, label], apply: [{use: one_of, transforms: [mixup, cutmix]}]}}"

    transforms: tuple[Transform, ...] = Field(min_length=1)
    odds: tuple[Number, ...] | None = Field(None, description="relative odds of each transform; unset: equal")
    p: float = Field(1.0, ge=0, le=1, description="probability that any is drawn")

    @model_validator(mode="after")
    def _same_scope(self) -> OneOf:
        if len({transform.per_batch for transform in self.transforms}) > 1:
            raise ValueError("one_of mixes transforms of a sample with transforms of a batch")
        if self.odds is not None and (
            len(self.odds) != len(self.transforms) or min(self.odds) < 0 or not any(self.odds)
        ):
            raise ValueError("one_of needs one number a transform in `odds`, none negative, not all zero")
        return self

    @property
    def per_batch(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.transforms[0].per_batch

    @property
    def adds(self) -> Mapping[str, TensorType]:  # pyright: ignore[reportIncompatibleVariableOverride]
        every = {name: fact for transform in self.transforms for name, fact in transform.adds.items()}
        return {**every, "which": TensorType("index", dtype="int64")}

    def apply(self, value: Any, generator: Any) -> Any:
        which = self._draw(generator)
        result = self.transforms[max(which, 0)].apply(value, generator if which >= 0 else None)
        said: Mapping[str, Any] = {}
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
            result, said = result
        if not self.per_batch:
            return result, {**dict.fromkeys(self.adds), **said, "which": which}
        nothing: dict[str, Any] = {name: [None] * len(value) for name in self.adds}
        return result, {**nothing, **said, "which": [which] * len(value)}

    def _draw(self, generator: Any) -> int:
        if generator is None or generator.random() >= self.p:
            return -1
        odds = self.odds or (1.0,) * len(self.transforms)
        at = generator.random() * sum(odds)
        for which, part in enumerate(odds):
            at -= part
            if at < 0:
                return which
        return max(which for which, part in enumerate(odds) if part)

    def result(self, field: TensorType) -> TensorType:
        found = [transform.result(field) for transform in self.transforms]
        # Bytes and floats of an image become the same numbers when rows are joined.
        if len({each.with_(dtype="") for each in found}) > 1:
            sizes = " and ".join(f"{each.modality} {list(each.size)}" for each in found)
            raise ValueError(f"the transforms of one_of give different types: {sizes}")
        return next((each for each in found if each.dtype == "float32"), found[0])

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        every = {name: fact for transform in self.transforms for name, fact in transform.added(*fields).items()}
        return {**every, "which": self.adds["which"]}

    def fitted(self, *fields: TensorType) -> Transform:
        return self.model_copy(update={"transforms": tuple(t.fitted(*fields) for t in self.transforms)})
