"""The source `filter`: samples whose fields have certain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from mmflow.plugin import ComponentError, Reader, SkippedSample, TensorType, any_number, describe, read_sample
from mmflow_sources.nested import Selection, check_count


class Range(BaseModel):
    """Numbers from `min` to `max`, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int | float | None = None
    max: int | float | None = None

    def holds(self, value: Any) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


Condition = Range | tuple[str | int | float | bool, ...] | str | int | float | bool


class Filter(Selection, name="filter"):
    """Samples of `of` whose fields are as `where` says: a value, one of a list, or a range `{min: , max: }`.

    Classes are meant by their names or numbers. A sample without the field is left out. Opening reads these fields of
    every sample once.
    """

    example: ClassVar[str] = "{use: filter, of: {use: shapes}, where: {color: [red, blue], count: {max: 2}}}"

    where: dict[str, Condition] = any_number(because="they are compared with numbers of the data", min_length=1)

    def places(self, inner: Reader) -> Sequence[int]:
        types = self.of.fields()
        unknown = next((name for name in self.where if name not in types), None)
        if unknown is not None:
            raise ComponentError(
                f"{describe(self.of)} has no field {unknown!r}", found=unknown, expected=f"one of: {', '.join(types)}"
            )
        wanted = {name: _meant(condition, types[name]) for name, condition in self.where.items()}
        check_count(self, self.of, len(inner))
        kept = []
        for index in range(len(inner)):
            try:
                sample = read_sample(inner, index, wanted)
            except SkippedSample:
                continue
            if all(sample[name] is not None and holds(sample[name]) for name, holds in wanted.items()):
                kept.append(index)
        return kept


def _meant(condition: Condition, type_: TensorType) -> Any:
    if isinstance(condition, Range):
        return condition.holds
    options = condition if isinstance(condition, tuple) else (condition,)
    values = set()
    for option in options:
        if type_.names and isinstance(option, str):
            if option not in type_.names:
                raise ComponentError(
                    f"no class {option!r}", found=option, expected=f"one of: {', '.join(type_.names[:20])}"
                )
            values.add(type_.names.index(option))
        else:
            values.add(option)
    return values.__contains__
