"""Views: fields of samples drawn together through transforms, each draw at its own address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mmflow.plugin.addresses import Address
from mmflow.plugin.kinds import Transform, View
from mmflow.plugin.references import words
from mmflow.plugin.targets import Target
from mmflow.plugin.values import TensorType


def input_of(name: str, view: str, views: Mapping[str, View]) -> Target:
    """Where a name in the `of` of `view` leads: another view, else a field (its own name means the field)."""
    parts = list(words(name))
    section = parts.pop(0) if parts[0] in ("fields", "views") and len(parts) > 1 else ""
    if section == "fields" or (not section and (parts[0] == view or parts[0] not in views)):
        return Target("fields", ".".join(parts))
    index = next((int(p) for p in parts[1:] if p.isdecimal()), None)
    output = ".".join(p for p in parts[1:] if not p.isdecimal()) or None
    return Target("views", parts[0], index=index, output=output)


def inputs_of(name: str, views: Mapping[str, View]) -> list[Target]:
    """Where the `of` of a view leads, in order."""
    return [input_of(of, name, views) for of in views[name].of]


def copies_of(name: str, views: Mapping[str, View]) -> int:
    """How many copies a view has, its own or those of a view that it reads."""
    whole = [t.name for t in inputs_of(name, views) if t.section == "views" and t.index is None]
    return views[name].copies_of(*(copies_of(inner, views) for inner in whole))


def fields_of(target: Target, views: Mapping[str, View]) -> Collection[str]:
    """Names of the source's fields that a target is made of."""
    if target.section != "views":
        return (target.name,) if target.section == "fields" else ()
    found: dict[str, None] = {}
    for inner in inputs_of(target.name, views):
        found.update(dict.fromkeys(fields_of(inner, views)))
    return tuple(found)


def needs_batch(target: Target, views: Mapping[str, View]) -> bool:
    """Whether a transform that mixes the rows of a batch stands behind a target."""
    if target.section != "views":
        return False
    mixed = any(transform.per_batch for transform in views[target.name].apply)
    return mixed or any(needs_batch(inner, views) for inner in inputs_of(target.name, views))


def column_type(target: Target, fields: Mapping[str, TensorType], views: Mapping[str, View]) -> TensorType:
    """The declared type of a field, a view or what a view adds, axis `copy` included."""
    if target.section == "fields":
        if target.name not in fields:
            raise KeyError(f"no field {target.name!r}; there are {', '.join(sorted(fields))}")
        found = fields[target.name]
    else:
        inputs = [column_type(inner, fields, views) for inner in inputs_of(target.name, views)]
        outputs = views[target.name].outputs(*inputs)
        output = target.output or next(iter(outputs))
        if output not in outputs:
            raise KeyError(f"view {target.name!r} has no output {output!r}; it has {', '.join(outputs)}")
        found = outputs[output]
    if target.index is None:
        return found
    size = found.groups[0] if found.groups else None
    if size is not None and target.index >= size:
        raise KeyError(f"{target.section[:-1]} {target.name!r} has {size} copies: there is no copy {target.index}")
    return found.member()


def fitted(targets: Iterable[Target], fields: Mapping[str, TensorType], views: Mapping[str, View]) -> dict[str, View]:
    """All views, those behind `targets` with their transforms fitted to the types that they meet there."""
    found = dict(views)
    names = [target.name for target in targets if target.section == "views"]
    for name in names:
        inner = inputs_of(name, views)
        found[name] = views[name].fitted(*(column_type(target, fields, views) for target in inner))
        names += [target.name for target in inner if target.section == "views" and target.name not in names]
    return found


class Row(NamedTuple):
    """A sample as its source gives it; `turn` counts how often its batch had it before (repeated augmentation)."""

    sample: Mapping[str, Any]
    id: str
    turn: int = 0


class RowError(Exception):
    """A transform that failed on one row (its number) or on a whole batch (None); the cause is chained."""

    def __init__(self, row: int | None) -> None:
        super().__init__(row)
        self.row = row


class Drawing:
    """The views of a stage, with what does not depend on rows worked out once."""

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
        """What a copy of a view reads: of a view that it reads whole, the same copy."""
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

    def facts(self, name: str) -> dict[str, Any]:
        """What the transforms of a view will have said, before they have said it."""
        if name not in self._facts:
            self._facts[name] = {fact: None for transform in self.views[name].apply for fact in transform.adds}
        return dict(self._facts[name])

    def at(self, what: str, epoch: int) -> Address:
        if (what, epoch) not in self._at:
            self._at = {place: address for place, address in self._at.items() if place[1] == epoch}
            self._at[what, epoch] = Address(self.seed, what, epoch)
        return self._at[what, epoch]


class ViewedRows:
    """Rows with their views, each computed when it is asked for, and once.

    A view of one field hands its transforms the value; a view of several hands them a mapping of those that are
    there, and they draw once for all. A transform that works on the batch needs all rows of the global batch here, and
    draws at the batch's number. `epoch` None is the deterministic form (the generator is None).
    """

    def __init__(self, rows: Sequence[Row], drawing: Drawing, *, epoch: int | None, batch: int = 0) -> None:
        self.rows, self.drawing, self.epoch, self.batch = rows, drawing, epoch, batch
        self._drawn: dict[tuple[str, int], list[dict[str | None, Any]]] = {}

    def get(self, target: Target) -> list[Any]:
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

    def _draw(self, name: str, copy: int) -> list[dict[str | None, Any]]:
        if (name, copy) not in self._drawn:
            view = self.drawing.views[name]
            of, names = self.drawing.names(name)
            columns = [self.get(inner) for inner in self.drawing.inputs(name, copy)]
            present = [_taken(of, row) for row in zip(*columns, strict=True)]
            facts = [self.drawing.facts(name) for _ in self.rows]
            for place, transform in enumerate(view.apply):
                change = self._mix if transform.per_batch else self._change
                change(transform, of, present, facts, (name, copy, place))
            drawn: list[dict[str | None, Any]] = []
            for row, said in zip(present, facts, strict=True):
                found: dict[str | None, Any] = {None: row.get(of[0])}
                for short, one in names:
                    found[short] = row.get(one)
                found.update(said)
                drawn.append(found)
            self._drawn[name, copy] = drawn
        return self._drawn[name, copy]

    def _change(
        self, transform: Transform, of: Sequence[str], present: list[dict[str, Any]], facts: list[dict[str, Any]],
        at: tuple[str, int, int],
    ) -> None:  # fmt: skip
        """One transform on each row by itself: new values into `present`, what it says into `facts`."""
        name, copy, place = at
        apply, single, copies = transform.apply, len(of) == 1, self.drawing.copies(name)
        for row, before in enumerate(present):
            if not before:
                continue
            generator = None
            if self.epoch is not None:
                many = copy + self.rows[row].turn * copies
                generator = self.drawing.at("view", self.epoch).at(self.rows[row].id).at(name, many, place).generator()
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

    def _mix(
        self, transform: Transform, of: Sequence[str], present: list[dict[str, Any]], facts: list[dict[str, Any]],
        at: tuple[str, int, int],
    ) -> None:  # fmt: skip
        """One transform on all rows together."""
        single = len(of) == 1
        given: list[Any] = [None] * len(present)
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


def _member(group: Any, index: int) -> Any:
    """A member of a group; absent where the group is, or has fewer."""
    return None if group is None or index >= len(group) else group[index]


def _taken(of: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values that are there, by name."""
    return {one: value for one, value in zip(of, values, strict=True) if value is not None}


def _split(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """What a transform returns: the value, and what it says it did."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        return result
    return result, {}
