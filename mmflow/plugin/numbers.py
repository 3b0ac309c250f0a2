"""Numbers that move: a constant, a schedule, a learned parameter, or a reference to one.

`temperature`, `weight`, `momentum`, `margin` and `lr` are fields of kind `Value`. A schedule is a pure
function of the clock; a learned value is a parameter of the model under the path of its field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError, core_schema

from mmflow.plugin.component import Component, Shared
from mmflow.plugin.marks import PER_ROW
from mmflow.plugin.references import Annotation, Pooled, Refs, Written
from mmflow.plugin.values import Json


@dataclass(frozen=True)
class Clock:
    """Where a training stage stands: optimizer steps done and to do, epochs (fractional) done and to do."""

    step: int
    steps: int
    epoch: float = 0.0
    epochs: float = 1.0

    @property
    def fraction(self) -> float:
        return min(1.0, self.step / self.steps) if self.steps else 0.0


class Value(Component, kind="value"):
    """A number that may move. In a spec: `0.07`, `{use: cosine, ...}`, `{use: learned, init: 0.07}` or a path."""

    @classmethod
    def shorthand(cls, raw: Written) -> Component | None:
        if isinstance(raw, bool) or not isinstance(raw, (int, float)):
            return None
        return Constant(value=float(raw))

    def at(self, clock: Clock) -> float:
        """The value at that moment; learned values are read from the model instead."""
        raise NotImplementedError(f"{type(self).__name__} has no value without a model")


class Constant(Value, name="constant"):
    """The same number always; a plain number in a spec is one."""

    example: ClassVar[str] = "temperature: {use: constant, value: 0.07}"

    value: float

    def at(self, clock: Clock) -> float:
        return self.value

    def plain(self) -> Json:
        return self.value


class Learned(Value, name="learned"):
    """A scalar parameter with bounds, kept inside them after each optimizer step.

    `exp: true` (the default for a positive `init`) stores its logarithm, as CLIP's logit scale does
    (Radford et al., 2021); `exp: false` stores the number itself, as SigLIP's bias needs.
    """

    example: ClassVar[str] = "temperature: {use: learned, init: 0.07, min: 0.01}"

    init: float
    min: float | None = None
    max: float | None = None
    exp: bool | None = None

    @model_validator(mode="after")
    def _inside(self) -> Learned:
        low, high = self.min, self.max
        if (low is not None and self.init < low) or (high is not None and self.init > high):
            least, most = ("" if bound is None else f"{bound:g}" for bound in (low, high))
            raise ValueError(f"init {self.init:g} lies outside its bounds, {least or 'any'} to {most or 'any'}")
        if self.exp and (self.init <= 0 or (low is not None and low < 0)):
            raise ValueError("exp: true needs a positive init and bounds that are not negative")
        return self

    @property
    def exponential(self) -> bool:
        return self.init > 0 if self.exp is None else self.exp


class BatchValue(Value):
    """A number of the whole batch, such as a temperature that follows how similar pairs are.

    Write `compute` with `of` in order (rows present in all inputs), and fields and `clock` or `step` by name; it
    returns a 0-d tensor, with gradient unless it detaches it. It stands in fields of losses and encoders that take a
    number.
    """

    method: ClassVar[str] = "compute"

    of: Refs[Pooled]


def takes_rows(component: type[BaseModel], field: str) -> bool:
    """Whether a field that holds a number takes one a row as well."""
    info = component.model_fields.get(field)
    extra = info.json_schema_extra if info is not None else None
    return isinstance(extra, Mapping) and bool(extra.get(PER_ROW))


@dataclass(frozen=True)
class Bounds:
    """Limits of a `Value` field, held against a constant, the start of a learned number, and a schedule as it runs."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def __get_pydantic_core_schema__(self, source: Annotation, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Component | Shared) -> Component | Shared:
        if isinstance(value, Value) and (found := self.outside(value)) is not None:
            context = {"message": "out of range", "found": found, "expected": self.says(), "hint": ""}
            raise PydanticCustomError("bounds", "{message}", context)
        return value

    def outside(self, value: Value) -> str | None:
        """The number outside these limits that a value is, starts from, or comes to; None where there is none."""
        broken = (number for number in _numbers(value) if not self._hold(number))
        return next((f"{number:g}" for number in broken), None)

    def _hold(self, number: float) -> bool:
        broken = (
            (self.gt is not None and not number > self.gt)
            or (self.ge is not None and not number >= self.ge)
            or (self.lt is not None and not number < self.lt)
            or (self.le is not None and not number <= self.le)
        )
        return not broken and number == number

    def says(self) -> str:
        pairs = (("above", self.gt), ("at least", self.ge), ("below", self.lt), ("at most", self.le))
        return "a number " + " and ".join(f"{word} {limit:g}" for word, limit in pairs if limit is not None)


PROBED = (0, 500, 999)
"""Steps of a thousand at which a schedule is held against its limits."""


def _numbers(value: Value) -> Iterator[float]:
    if isinstance(value, Constant):
        yield value.value
    elif isinstance(value, Learned):
        yield value.init
    else:
        for step in PROBED:
            try:
                yield value.at(Clock(step, 1000, step / 1000))
            except NotImplementedError:  # a plugin's value that is known to a model alone
                return


@dataclass(frozen=True)
class ByClock:
    """Marks a `Value` field that is read where there is no model (a learning rate): nothing learned stands there."""

    def __get_pydantic_core_schema__(self, source: Annotation, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Component | Shared | None) -> Component | Shared | None:
        if isinstance(value, Learned):
            hint = "write a number or a schedule, such as {use: cosine}"
            context = {"message": "a learned number cannot stand here", "found": "", "expected": "", "hint": hint}
            raise PydanticCustomError("clock", "{message}", context)
        return value


Scheduled = Annotated[Value, ByClock()]
"""A number or a schedule, and nothing learned."""
