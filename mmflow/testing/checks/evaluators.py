"""The checks of an evaluator: chance on random encodings, better on perfect ones, and nothing but rows matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Evaluator, Metric, Score, Tokens
from mmflow.plugin.binding import binding
from mmflow.plugin.numbers import Clock, Value
from mmflow.plugin.references import Data, Labels, RawField, reference_fields
from mmflow.plugin.values import Argument, RawValue
from mmflow.testing.case import Untestable, example_of
from mmflow.testing.faults import Fault

ROWS, DIM, CLASSES = 120, 12, 4


@dataclass(frozen=True)
class Inputs:
    """All that an evaluator reads: one encoding a reference in `of`, and columns by the name of its field (a tuple of
    them for a field with several references)."""

    of: tuple[Encoding, ...] = ()
    columns: Mapping[str, Argument] = field(default_factory=dict)

    def rows(self, index: Tensor) -> Inputs:
        columns = {name: _picked(value, index) for name, value in self.columns.items()}
        return Inputs(tuple(encoding.rows(index) for encoding in self.of), columns)

    def __len__(self) -> int:
        return len((*self.of, *self.columns.values())[0])


def _picked(column: Argument, index: Tensor) -> Argument:
    if isinstance(column, Tokens):
        return Tokens(column.values[index], column.mask[index])
    if isinstance(column, Tensor):
        return column[index]
    if isinstance(column, Encoding):
        return column.rows(index)
    if isinstance(column, tuple):
        return tuple(_picked(each, index) for each in column)
    assert isinstance(column, list)
    return [column[int(place)] for place in index]


@dataclass(frozen=True)
class _Model:
    """The argument `model` of an evaluator: the names of classes and an encoder of values that the case gives."""

    case: EvaluatorCase

    def names(self, field: str) -> tuple[str, ...]:
        return tuple(self.case.names.get(field, ()))

    def reads(self, encoder: str) -> tuple[str, bool]:
        return encoder, True

    def encode(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        if self.case.encode is None:
            raise Untestable(f"{self.case.label}: it encodes values of its own: give `encode`")
        return self.case.encode(values)


@dataclass(frozen=True)
class EvaluatorCase:
    """An evaluator with encodings that say nothing about what it measures, and with some that say everything."""

    component: Evaluator
    random: Inputs
    perfect: Inputs | None = None
    draws: bool = False
    """Whether it draws among rows (starts of k-means, halves), so that their order may change a value."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The names of classes by field."""
    encode: Callable[[Sequence[RawValue]], Encoding] | None = None
    """Encodes values of the evaluator's own, such as prompts."""
    other: Inputs | None = None
    """The rows of its further data (`test`); those that are measured themselves where unset."""

    @property
    def label(self) -> str:
        return f"stage/{self.component.use}"

    def measure(self, inputs: Inputs) -> EvaluationResult:
        made = self.component

        def given(name: str) -> Argument:
            if name in inputs.columns:
                return inputs.columns[name]
            value = getattr(made, name)
            if Data in reference_fields(type(made)).get(name, ()) and value is not None:
                other = self.other or inputs
                ids = [str(row) for row in range(len(other))]
                return SimpleNamespace(of=other.of, fields=dict(other.columns), ids=ids)
            if isinstance(value, Value):
                return value.at(Clock(0, 1))
            build = getattr(value, "build", None)
            return build() if isinstance(value, Score) and build is not None else value

        def asked(name: str) -> Argument:
            if name == "generator":
                return torch.Generator().manual_seed(0)
            if name == "model":
                return _Model(self)
            if name == "texts_of":
                return tuple(None for _ in inputs.of)
            return [str(row) for row in range(len(inputs))]

        return binding(made).call(made.evaluate, list(inputs.of), given, asked)


def check_metrics_are_complete(case: EvaluatorCase) -> None:
    """Metrics have names of their own and finite numbers, and lie inside their intervals."""
    metrics = case.measure(case.random).metrics
    if not metrics:
        raise Fault(case, "it measures nothing")
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise Fault(case, "two metrics have one name", found=sorted(names))
    for metric in metrics:
        if not math.isfinite(metric.value):
            raise Fault(case, f"`{metric.name}` is not a finite number", found=metric.value)
        low, high = metric.low, metric.high
        if low is not None and high is not None and not low - 1e-9 <= metric.value <= high + 1e-9:
            raise Fault(
                case, f"`{metric.name}` is outside its interval", found=metric.value, expected=f"{low} to {high}"
            )


def check_repeats(case: EvaluatorCase) -> None:
    """Two measurements give the same numbers, wherever torch's own generator stands."""
    torch.manual_seed(1)
    first = case.measure(case.random).metrics
    torch.manual_seed(2)
    for one, other in zip(first, case.measure(case.random).metrics, strict=True):
        if one != other:
            raise Fault(case, f"two measurements of `{one.name}` differ", found=other.value, expected=one.value)


def check_row_order(case: EvaluatorCase) -> None:
    """The order of rows changes no value."""
    if case.draws:
        return
    order = torch.randperm(len(case.random), generator=torch.Generator().manual_seed(0))
    first, second = case.measure(case.random).metrics, case.measure(case.random.rows(order)).metrics
    for one, other in zip(first, second, strict=True):
        if abs(one.value - other.value) > 1e-5 * max(1.0, abs(one.value)):
            raise Fault(case, f"the order of rows changes `{one.name}`", found=other.value, expected=one.value)


def check_chance(case: EvaluatorCase) -> None:
    """On encodings that say nothing, values are near the stated chance."""
    for metric in case.measure(case.random).metrics:
        if metric.chance is None:
            continue
        width = _width(metric)
        if abs(metric.value - metric.chance) > width:
            raise Fault(
                case, f"`{metric.name}` of random encodings is far from its chance", found=metric.value,
                expected=f"{metric.chance} ± {width:.3g}",
            )  # fmt: skip


def check_perfect(case: EvaluatorCase) -> None:
    """Encodings that say everything are measured as better than those that say nothing."""
    if case.perfect is None:
        return
    random = {metric.name: metric for metric in case.measure(case.random).metrics}
    for metric in case.measure(case.perfect).metrics:
        before = random.get(metric.name)
        if before is None or not metric.better:
            continue
        gain = (metric.value - before.value) * (1 if metric.better == "higher" else -1)
        if gain < 0 and metric.chance is not None:
            raise Fault(case, f"`{metric.name}` of perfect encodings is worse than of random ones", found=metric.value)


def check_small_inputs(case: EvaluatorCase) -> None:
    """One row, two rows and equal rows are measured, or refused in a sentence; never Python's own error."""
    size = len(case.random)
    small: Sequence[tuple[str, Tensor]] = (
        ("one row", torch.arange(1)), ("two rows", torch.arange(2)), ("equal rows", torch.zeros(min(8, size)).long())
    )  # fmt: skip
    for says, index in small:
        try:
            case.measure(case.random.rows(index))
        except (ComponentError, Untestable):
            continue
        except Exception as error:
            raise Fault(case, f"{says} end in {type(error).__name__}: {error}") from None


CHECKS = (
    check_metrics_are_complete,
    check_repeats,
    check_row_order,
    check_chance,
    check_perfect,
    check_small_inputs,
)


def evaluator_case(made: type[Evaluator]) -> EvaluatorCase:
    """A case with pooled vectors and, where it has them, labels."""
    component = example_of(made)
    assert isinstance(component, Evaluator)
    draw = torch.Generator().manual_seed(0)
    count = max(1, len(component.of))
    labels = torch.arange(ROWS) % CLASSES
    columns: dict[str, Argument] = {}
    for name, types in reference_fields(made).items():
        if name in ("of", "data", "model") or Data in types:
            continue
        if getattr(component, name) in (None, (), {}):
            columns[name] = None
        elif Labels in types:
            columns[name] = labels
        elif types == (RawField,):
            columns[name] = [f"text {row}" for row in range(ROWS)]
        else:
            raise Untestable(f"stage/{component.use}: give a value for `{name}`")
    given = {name: value for name, value in columns.items() if value is not None}
    random = Inputs(tuple(Encoding({"pooled": torch.randn(ROWS, DIM, generator=draw)}) for _ in range(count)), given)
    points = torch.eye(DIM)[labels] if "labels" in given else torch.randn(ROWS, DIM, generator=draw)
    return EvaluatorCase(component, random, Inputs(tuple(Encoding({"pooled": points}) for _ in range(count)), given))


def _width(metric: Metric) -> float:
    """The distance from chance that random encodings may have: twice the interval, and a tenth of the value's range."""
    ends = [abs(metric.value - end) for end in (metric.low, metric.high) if end is not None]
    return max([0.1, 3 * max(ends, default=0.0), 3 * (metric.spread or 0.0), 0.5 * abs(metric.chance or 0.0)])
