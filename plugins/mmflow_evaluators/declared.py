"""What the declarations of evaluators share: how many encoders they take, and the rows and classes that they need."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from mmflow.plugin import ComponentError, Encoding, Evaluator, Labels, Ref, Tally
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Counts = Mapping[int, int]
"""Rows of each class."""
Refusal = tuple[str, str, str]
"""The field at fault, the reason, and the fix."""


class OfEach(Evaluator):
    """Measures each encoder in `of` by itself: at least one, without group axes."""

    axes: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _some(self) -> OfEach:
        if not self.of:
            raise ValueError("`of` names no encoder")
        return self


class OfTwo(Evaluator):
    """Measures between two encoders."""

    @model_validator(mode="after")
    def _two(self) -> OfTwo:
        if len(self.of) != 2:
            first, second = type(self).arguments()[:2]
            raise ValueError(f"`of` names two encoders ({first}, {second}); it has {len(self.of)}")
        return self


class OfSeveral(Evaluator):
    """Measures between all pairs of two encoders or more."""

    @model_validator(mode="after")
    def _two(self) -> OfSeveral:
        if len(self.of) < 2:
            raise ValueError("`of` names at least two encoders")
        return self


class WithClasses(Evaluator):
    """Reads one class a row of `data`, and perhaps of `test`; `lacks` says what is missing."""

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": CLASS}
    labels: Ref[Labels]

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        """What rows of so many of each class lack: `known` in `data`, `asked` in `test` (None without it)."""
        return iter(())

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        found = {field: tally.classes.get(self.labels) for field, tally in tallies.items()}
        known = found.get("data")
        if known is not None and None not in found.values():
            for field, message, hint in self.lacks(known, found.get("test")):
                yield field, f"{self.use}: {message}", hint

    def require(self, where: str, known: ArrayLike, asked: ArrayLike | None = None) -> None:
        """Raise `ComponentError` where the classes of the rows that are there lack something."""
        for _, message, hint in self.lacks(counts(known), None if asked is None else counts(asked)):
            raise ComponentError(f"{where}: {message}", hint=hint)


def counts(labels: ArrayLike) -> Counts:
    """Rows of each class; negative ones are no class."""
    import numpy as np

    return Counter(label for label in np.asarray(labels).reshape(-1).tolist() if label >= 0)


def two_classes(known: Counts, doing: str) -> Iterator[Refusal]:
    """Rows of fewer than two classes, from which nothing can be learned or compared."""
    if len(known) < 2:
        rows = sum(known.values())
        said = f"{amount(rows, 'labeled row')} of one class" if rows else "no row has a label"
        yield "labels", f"{said}, and {doing} needs two classes", "name a field with several classes"


def known_classes(known: Counts, asked: Counts | None, field: str = "test") -> Iterator[Refusal]:
    """Rows to be tested on none of which has a class that could be learned: every answer would be wrong."""
    if asked is None:
        return
    rows = sum(asked.values())
    if not rows:
        yield field, "no row to be tested on has a label", "name data with labels"
    elif known and not set(known) & set(asked):
        said = f"none of the {amount(rows, 'row')} to be tested on has one of the {len(known)} classes learned from"
        yield field, said, "learn from data with the classes that are asked for"


def unnamed(use: str, known: Counts, names: int) -> Iterator[Refusal]:
    """Classes whose number has no name; nothing where no names are known."""
    if known and names and max(known) >= names:
        rows = sum(rows for number, rows in known.items() if number >= names)
        said = f"{use}: {amount(rows, 'row')} of classes up to number {max(known)}, and there are {names} names"
        yield "labels", said, "name all classes, from number 0 on"


def groups_of_rows(use: str, name: str, encoding: Encoding) -> Iterator[Refusal]:
    """Rows that are groups, where one value a row is measured."""
    if len(encoding.axes) > 1:
        axis = encoding.axes[1]
        yield "of", f"{use} takes no groups of rows, and {name} has the axis {axis}", f"write {name}.0"


def not_grouped(use: str, names: Sequence[str], of: Sequence[Encoding], axes: Sequence[int]) -> Iterator[Refusal]:
    """Inputs with other numbers of axes than are measured: 1 for one value a row, 2 for a group a row."""
    for name, encoding, wanted in zip(names, of, axes, strict=True):
        if len(encoding.axes) != wanted:
            form = "a group of values a row" if wanted == 2 else "one value a row"
            said = f"{use} takes {form} of {name}, which has the axes {', '.join(encoding.axes)}"
            yield "of", said, "a group comes from a field that holds a list a row, one of it is written NAME.0"


def amount(number: int, one: str) -> str:
    """`1 row`, `2 rows`, `2 queries`."""
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{number:,} {one if number == 1 else many}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of scikit-learn that a solver has stopped, or that classes or distinct rows are few: these
    are part of a stated protocol, or said in mmflow's words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        yield


def too_few(tallies: Mapping[str, Tally], least: int, use: str, field: str = "data") -> Iterator[Refusal]:
    """An entry of data with fewer rows than a measurement needs."""
    rows = tallies["data"].rows if "data" in tallies else None
    if rows is not None and rows < least:
        yield field, f"{use} needs {amount(least, 'row')}, and the data has {rows}", "name an entry with more"
