"""Views: fields of samples drawn together through transforms, each draw at its own address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mmflow.plugin.addresses import Address
from mmflow.plugin.kinds import Transform, View
from mmflow.plugin.targets import Target
from mmflow.plugin.values import RawValue, Sample
from mmflow.spec.references.views import copies_of, inputs_of

EVALUATION = -1
"""The epoch in the addresses of views that draw in evaluation."""


class Row(NamedTuple):
    """A sample as its source gives it; `turn` counts how often its batch had it before (repeated augmentation)."""

    sample: Sample
    id: str
    turn: int = 0


class RowError(Exception):
    """A transform that failed on one row (its number) or on a whole batch (None); the cause is chained."""

    def __init__(self, row: int | None) -> None:
        super().__init__(row)
        self.row = row


class Drawing:
    """The views of a stage, with everything that does not depend on rows worked out once."""

    def __init__(self, views: Mapping[str, View], seed: int) -> None:
        self.views, self.seed = dict(views), seed
        self._inputs: dict[tuple[str, int], list[Target]] = {}
        self._copies: dict[str, int] = {}
        self._names: dict[str, tuple[Sequence[str], Sequence[tuple[str, str]]]] = {}
        self._facts: dict[str, dict[str, None]] = {}
        self._at: dict[tuple[str, int], Address] = {}

    def copies(self, name: str) -> int:
        if name not in self._copies:
            self._copies[name] = copies_of(name, self.views)
        return self._copies[name]

    def inputs(self, name: str, copy: int) -> list[Target]:
        """The inputs of a copy of a view: of a view that it reads whole, the same copy."""
        if (name, copy) not in self._inputs:
            self._inputs[name, copy] = [
                Target("views", target.name, index=copy, output=target.output)
                if target.section == "views" and target.index is None and self.copies(target.name) > 1
                else target
                for target in inputs_of(name, self.views)
            ]
        return self._inputs[name, copy]

    def names(self, name: str) -> tuple[Sequence[str], Sequence[tuple[str, str]]]:
        """The `of` of a view, and the short name of each beside it."""
        if name not in self._names:
            of = tuple(map(str, self.views[name].of))
            self._names[name] = (of, tuple(zip(self.views[name].names, of, strict=True)))
        return self._names[name]

    def facts(self, name: str) -> dict[str, RawValue]:
        """The facts that the transforms of a view add, None until they do."""
        if name not in self._facts:
            self._facts[name] = {fact: None for transform in self.views[name].apply for fact in transform.adds}
        return dict(self._facts[name])

    def at(self, purpose: str, epoch: int) -> Address:
        if (purpose, epoch) not in self._at:
            self._at = {place: address for place, address in self._at.items() if place[1] == epoch}
            self._at[purpose, epoch] = Address(self.seed, purpose, epoch)
        return self._at[purpose, epoch]


_Fields: TypeAlias = dict[str, RawValue]
_Drawn: TypeAlias = dict[str | None, RawValue]
"""A row of a view: the value of each field by its short name, that of the first under None too, and the facts."""


class ViewedRows:
    """Rows with their views, each computed when it is asked for, and once.

    A view of one field hands its transforms the value; a view of several hands them a mapping of those that are
    there, and they draw once for all. A transform that works on the batch needs all rows of the global batch here, and
    draws at the batch's number. `epoch` None is the form of evaluation: the generator is None but for views that draw
    always, whose draws stand at the ids.
    """

    def __init__(self, rows: Sequence[Row], drawing: Drawing, *, epoch: int | None, batch: int = 0) -> None:
        self.rows, self.drawing, self.epoch, self.batch = rows, drawing, epoch, batch
        self._drawn: dict[tuple[str, int], list[_Drawn]] = {}

    def get(self, target: Target) -> list[RawValue]:
        """The value of a field or view for each row; a list over `copy` where the view has copies, none picked."""
        copies = 1 if target.section == "fields" else self.drawing.copies(target.name)
        if copies > 1:
            if target.index is not None:
                return [drawn[target.output] for drawn in self._draw(target.name, target.index)]
            each = [self._draw(target.name, copy) for copy in range(copies)]
            return [[drawn[target.output] for drawn in row] for row in zip(*each, strict=True)]
        if target.section == "fields":
            values = [row.sample[target.name] for row in self.rows]
        else:
            values = [drawn[target.output] for drawn in self._draw(target.name, 0)]
        return values if target.index is None else [_member(value, target.index) for value in values]

    def _draw(self, name: str, copy: int) -> list[_Drawn]:
        if (name, copy) not in self._drawn:
            view = self.drawing.views[name]
            of, names = self.drawing.names(name)
            columns = [self.get(inner) for inner in self.drawing.inputs(name, copy)]
            present = [_taken(of, row) for row in zip(*columns, strict=True)]
            facts = [self.drawing.facts(name) for _ in self.rows]
            for place, transform in enumerate(view.apply):
                change = self._mix if transform.per_batch else self._change
                change(transform, of, present, facts, (name, copy, place))
            drawn: list[_Drawn] = []
            for row, said in zip(present, facts, strict=True):
                found: _Drawn = {None: row.get(of[0])}
                for short, one in names:
                    found[short] = row.get(one)
                found.update(said)
                drawn.append(found)
            self._drawn[name, copy] = drawn
        return self._drawn[name, copy]

    def _change(
        self, transform: Transform, of: Sequence[str], present: list[_Fields], facts: list[_Fields],
        at: tuple[str, int, int],
    ) -> None:  # fmt: skip
        """One transform on each row by itself: new values go into `present`, added fields into `facts`."""
        name, copy, place = at
        apply, single, copies = transform.apply, len(of) == 1, self.drawing.copies(name)
        for row, before in enumerate(present):
            if not before:
                continue
            generator = None
            if (epoch := self._epoch(name)) is not None:
                many = copy + self.rows[row].turn * copies
                generator = self.drawing.at("view", epoch).at(self.rows[row].id).at(name, many, place).generator()
            try:
                value, said = _split(apply(before[of[0]] if single else before, generator))
            except Exception as error:
                raise RowError(row) from error
            if single:
                present[row] = {} if value is None else {of[0]: value}
            else:
                present[row] = _taken(of, [value.get(one) for one in of])
            if said:
                facts[row].update(said)

    def _epoch(self, name: str) -> int | None:
        """The epoch at whose address a view draws; None where it does not draw."""
        if self.epoch is None and self.drawing.views[name].draws == "always":
            return EVALUATION
        return self.epoch

    def _mix(
        self, transform: Transform, of: Sequence[str], present: list[_Fields], facts: list[_Fields],
        at: tuple[str, int, int],
    ) -> None:  # fmt: skip
        """One transform on all rows together."""
        single = len(of) == 1
        given: list[RawValue] = [None] * len(present)
        for row, before in enumerate(present):
            if before:
                given[row] = before[of[0]] if single else {one: before.get(one) for one in of}
        generator = None
        if self.epoch is not None:
            generator = self.drawing.at("batch", self.epoch).at(self.batch).at(*at).generator()
        try:
            values, said = _split(transform.apply(given, generator))
            for column in (values, *said.values()):
                if len(column) != len(given):
                    raise ValueError(f"{transform.use} gave {len(column)} values for a batch of {len(given)} rows")
        except Exception as error:
            raise RowError(None) from error
        for row, before in enumerate(given):
            if before is not None:
                present[row] = _taken(of, [values[row]] if single else [values[row].get(one) for one in of])
                facts[row].update({fact: column[row] for fact, column in said.items()})


def _member(group: RawValue, index: int) -> RawValue:
    """A member of a group; absent where the group is, or has fewer."""
    return None if group is None or index >= len(group) else group[index]


def _taken(of: Sequence[str], values: Sequence[RawValue]) -> dict[str, RawValue]:
    """The values that are present, by name."""
    return {one: value for one, value in zip(of, values, strict=True) if value is not None}


def _split(result: RawValue) -> tuple[RawValue, Sample]:
    """The value and the added fields of a transform's result."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        return result
    return result, {}
