"""Values between components: declared types in plain Python, and the plain tensors themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

RawValue: TypeAlias = Any
"""A value of a field in the form of its modality (`Modality.form`); None where it is absent."""

Argument: TypeAlias = Any
"""A value as a method receives or returns it: a tensor, `Tokens`, an `Encoding`, a number, a component, a list."""

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Plain data, as JSON holds it."""

State: TypeAlias = Mapping[str, Any]
"""Preprocessing that an encoder learned (a vocabulary), as JSON holds it."""

Sample: TypeAlias = Mapping[str, RawValue]
"""The fields of a sample as a source or a view gives them."""


SAMPLE: Final = "sample"
"""The row axis of data; that of the stream `pool` of several is `sample.pool`."""


NUMBER: Final = "number"
"""The axis of a single number of the whole batch."""


def of_samples(axis: str) -> bool:
    """Whether a row axis is that of the data, or of one of its streams."""
    return axis.partition(".")[0] == SAMPLE


def same_rows(axis: str, other: str) -> bool:
    """Whether rows of two axes belong together: those of one axis, or of two streams of data."""
    return axis == other or (of_samples(axis) and of_samples(other))


ABSENT: Final = -(2**63)
"""An absent value in a column of int64 numbers, as evaluators receive it; in labels it is -1, in floats NaN."""


@dataclass(frozen=True)
class TensorType:
    """The declared type of a field or an output: known before any tensor exists.

    `modality` names a registered modality (`mmflow list modality`), which describes a row: `image` (uint8 HWC
    array), `text` (str), `audio`, `video`, `series`, `label` (int), `labels`, `number`, `boxes`, `mask`, `graph`,
    `id`; or, for outputs of encoders, `vector` [D], `tokens` [L, D], `grid` [H, W, D], `logits`, `index`.
    `axes` are the row axis and the group axes (`("sample", "copy")`); `size` the content sizes, None where
    unknown; `names` the class names of a label.
    """

    modality: str
    axes: tuple[str, ...] = ("sample",)
    size: tuple[int | None, ...] = ()
    dtype: str = "float32"
    names: tuple[str, ...] = ()
    groups: tuple[int | None, ...] = ()
    """Sizes of the group axes (`axes[1:]`), None where ragged."""
    vocabulary: int | None = None
    """For outputs of encoders that read text: how many ids their tokenizer has, or may learn."""
    rate: int | None = None
    """For sounds: samples a second, where it is the same for all rows."""

    @property
    def static(self) -> bool:
        return not self.axes or not of_samples(self.axes[0])

    def with_(self, **changes: Any) -> TensorType:
        return replace(self, **changes)

    def member(self) -> TensorType:
        """The type of one member of the first group axis."""
        return replace(self, axes=(self.axes[0], *self.axes[2:]), groups=self.groups[1:])


class Tokens(NamedTuple):
    """A padded sequence a row: `values` [N, L, ...] (ids int64 [N, L] or vectors [N, L, D]), `mask` bool [N, L]."""

    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Encoding:
    """All outputs of a node for its rows.

    `outputs` maps `pooled` [N, *groups, D], `tokens`, `grid` and names of the encoder's own to tensors (or
    `Tokens`); `present` is bool [N, *groups], or None where every row is there; `axes` names the row axis and
    the group axes.
    """

    outputs: Mapping[str, Argument]
    axes: tuple[str, ...] = ("sample",)
    present: Tensor | None = None

    @property
    def pooled(self) -> Tensor:
        return self.outputs["pooled"]

    @property
    def tokens(self) -> Tokens:
        return self.outputs["tokens"]

    def __getitem__(self, name: str) -> Argument:
        return self.outputs[name]

    def __len__(self) -> int:
        first = next(iter(self.outputs.values()))
        return len(first.values if isinstance(first, Tokens) else first)

    def map(self, function: Callable[[Tensor], Tensor]) -> Encoding:
        """Apply `function` to every tensor (moved, detached), presence included; lists stay as they are."""
        outputs = {name: _mapped(value, function) for name, value in self.outputs.items()}
        return replace(self, outputs=outputs, present=None if self.present is None else function(self.present))

    def rows(self, index: slice | Tensor) -> Encoding:
        """The rows at `index` (a slice, an index tensor or a boolean mask)."""
        cut = self.map(lambda tensor: tensor[index])
        lists = {name: _picked(value, index) for name, value in cut.outputs.items() if isinstance(value, list)}
        return replace(cut, outputs={**cut.outputs, **lists}) if lists else cut


def _mapped(value: Argument, function: Callable[[Tensor], Tensor]) -> Argument:
    if isinstance(value, Tokens):
        return Tokens(function(value.values), function(value.mask))
    return value if isinstance(value, list) else function(value)


def _picked(values: list[RawValue], index: slice | Tensor) -> list[RawValue]:
    if isinstance(index, slice):
        return values[index]
    places = index.nonzero().flatten() if str(index.dtype) == "torch.bool" else index
    return [values[int(i)] for i in places]


def in_all(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Presence in both of two: bool [N, *groups]; presence with fewer group axes holds for a whole group."""
    if a is None or b is None:
        return a if b is None else b
    while a.ndim < b.ndim:
        a = a.unsqueeze(-1)
    while b.ndim < a.ndim:
        b = b.unsqueeze(-1)
    return a & b


NUMBERS = ("value", "chance", "spread", "low", "high")
"""Fields of a metric that hold numbers."""


@dataclass(frozen=True)
class ItemScores:
    """The scores [N] of the items whose mean a metric is, and the row of the data that each belongs to.

    An item is what is right or wrong by itself: a query, a classified row. `rows` holds places among the measured rows,
    or ids; several items of one row (five captions of an image) stand in the order in which the row holds them.
    """

    scores: Sequence[float] | NDArray[np.float64]
    rows: Sequence[int] | Sequence[str] | NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A measured number, with all that a table or a report needs to print it."""

    name: str
    """Unique in its evaluation: `image_to_text_r1`."""
    value: float
    chance: float | None = None
    """The value that guessing gives, where it is known."""
    better: Literal["higher", "lower", ""] = "higher"
    """The direction of a better value; empty where neither is."""
    unit: str = ""
    spread: float | None = None
    """Half the 95 % interval, where it was measured."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval, where they were measured: near 0 and 1 they are not equally far from the value."""
    title: str = ""
    """As a reader writes it (`R@1`); by default the name in words."""
    group: str = ""
    """The encoders or rows that it was measured on (`image → text`): metrics of a group stand together."""
    items: ItemScores | None = field(default=None, repr=False, compare=False)
    """The scores that it is the mean of, where it is one: methods are compared on them, item by item."""

    def improves_on(self, best: Metric) -> bool:
        """Whether it is better than `best`; NaN never is."""
        if math.isnan(best.value):
            return not math.isnan(self.value)
        return self.value < best.value if self.better == "lower" else self.value > best.value

    @property
    def heading(self) -> str:
        """The title inside its group."""
        return self.title or self.name.replace("_", " ")

    @property
    def label(self) -> str:
        """Group and title: `image → text R@1`."""
        return f"{self.group} {self.heading}" if self.group else self.heading

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, where it was measured: its ends, or the spread to both sides."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return None if self.spread is None else (self.value - self.spread, self.value + self.spread)

    def stored(self) -> dict[str, str | float | None]:
        """The metric as it is stored, numbers as plain floats."""
        numbers = {n: None if (v := getattr(self, n)) is None else float(v) for n in NUMBERS}
        plain = asdict(replace(self, items=None))
        del plain["items"]
        return {**plain, **numbers}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Metric:
        """A metric as it was stored, also of an earlier one that says less."""
        return cls(**{each.name: stored[each.name] for each in fields(cls) if each.name in stored})


class Example(TypedDict):
    """A query and the rows that score highest with it, for a report: ids of rows, and the fields to show of them."""

    query: str
    field: str
    found: list[str]
    field_found: str
    right: list[bool]


@dataclass
class EvaluationResult:
    """The result of an evaluator: metrics, and optionally rows and figures to show in the report.

    `figures` maps a title to a plain-data figure (`{"kind": "bars" | "lines" | "points" | "matrix", ...}`); `notes`
    say in a sentence each which numbers were not measured, and why; `remarks` warn about those that were, with numbers.
    """

    metrics: list[Metric]
    examples: list[Example] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
