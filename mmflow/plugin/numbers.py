"""Numbers that move: a constant, a schedule, a learned parameter, or a reference to one.

`temperature`, `weight`, `momentum`, `margin` and `lr` are fields of kind `Value`. A schedule is a pure
function of the clock; a learned value is a parameter of the model under the path of its field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError, core_schema

from mmflow.plugin.component import PER_ROW, Component, Shared
from mmflow.plugin.references import Annotation, Written
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


def takes_rows(component: type[BaseModel], field: str) -> bool:
    """Whether a field that holds a number takes one a row as well."""
    info = component.model_fields.get(field)
    extra = info.json_schema_extra if info is not None else None
    return isinstance(extra, Mapping) and bool(extra.get(PER_ROW))


@dataclass(frozen=True)
class Bounds:
    """Limits of a `Value` field, checked where the value is constant (or where a learned one starts)."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def __get_pydantic_core_schema__(self, source: Annotation, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Component | Shared) -> Component | Shared:
        number = value.value if isinstance(value, Constant) else value.init if isinstance(value, Learned) else None
        if number is None:
            return value
        broken = (
            (self.gt is not None and not number > self.gt)
            or (self.ge is not None and not number >= self.ge)
            or (self.lt is not None and not number < self.lt)
            or (self.le is not None and not number <= self.le)
        )
        if broken or number != number:
            context = {"message": "out of range", "found": f"{number:g}", "expected": self.says(), "hint": ""}
            raise PydanticCustomError("bounds", "{message}", context)
        return value

    def says(self) -> str:
        pairs = (("above", self.gt), ("at least", self.ge), ("below", self.lt), ("at most", self.le))
        return "a number " + " and ".join(f"{word} {limit:g}" for word, limit in pairs if limit is not None)
