"""Views: fields of a sample drawn together through transforms, each draw at its own address."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mmflow.data.random import numpy_generator
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Transform, View
from mmflow.plugin.values import TensorType
from mmflow.spec.target import Target


def input_of(name: str, view: str, views: Mapping[str, View]) -> Target:
    """Where a name in the `of` of `view` leads: another view, else a field (its own name means the field)."""
    parts = name.split(".")
    section = ""
    if parts[0] in ("fields", "views") and len(parts) > 1:
        section, parts = parts[0], parts[1:]
    if section == "fields" or (not section and (parts[0] == view or parts[0] not in views)):
        return Target("fields", ".".join(parts))
    index = next((int(p) for p in parts[1:] if p.isdecimal()), None)
    output = ".".join(p for p in parts[1:] if not p.isdecimal()) or None
    return Target("views", parts[0], index=index, output=output)


def copies_of(name: str, views: Mapping[str, View]) -> int:
    """Copies of a view; a view of a view with copies has as many, and may have none of its own."""
    view = views[name]
    inner = 1
    for of in view.of:
        target = input_of(of, name, views)
        if target.section == "views" and target.index is None:
            inner = max(inner, copies_of(target.name, views))
    if inner > 1 and view.copies > 1:
        raise ComponentError(
            f"view {name!r} makes {view.copies} copies of a view that has {inner}", hint="name one, as in `of: two.0`"
        )
    return max(inner, view.copies)


def fields_of(target: Target, views: Mapping[str, View]) -> Collection[str]:
    """Names of the source's fields that a target is made of."""
    if target.section != "views":
        return (target.name,) if target.section == "fields" else ()
    found: dict[str, None] = {}
    for of in views[target.name].of:
        found.update(dict.fromkeys(fields_of(input_of(of, target.name, views), views)))
    return tuple(found)


def column_type(target: Target, fields: Mapping[str, TensorType], views: Mapping[str, View]) -> TensorType:
    """The declared type of a field, a view or what a view adds, axis `copy` included."""
    if target.section == "fields":
        if target.name not in fields:
            raise KeyError(f"no field {target.name!r}; there are {', '.join(sorted(fields))}")
        type_ = fields[target.name]
        return type_ if target.index is None else type_.with_(axes=_less(type_.axes), groups=type_.groups[1:])
    view = views[target.name]
    inputs = {of: column_type(_one(input_of(of, target.name, views), views), fields, views) for of in view.of}
    added: dict[str, TensorType] = {}
    for transform in view.apply:
        inputs = {of: transform.result(type_) for of, type_ in inputs.items()}
        added.update(transform.adds)
    outputs = {**{short_name(of): type_ for of, type_ in inputs.items()}, **added}
    if target.output is None:
        type_ = next(iter(inputs.values()))
    elif target.output in outputs:
        type_ = outputs[target.output]
    else:
        raise KeyError(f"view {target.name!r} has no output {target.output!r}; it has {', '.join(outputs)}")
    copies = copies_of(target.name, views)
    if target.index is not None:
        if target.index >= copies:
            raise KeyError(f"view {target.name!r} has {copies} copies: there is no copy {target.index}")
        return type_
    if copies == 1:
        return type_
    return type_.with_(axes=(type_.axes[0], "copy", *type_.axes[1:]), groups=(copies, *type_.groups))


def short_name(of: str) -> str:
    """The output name under which a view of several fields gives one of them."""
    return of.rpartition(".")[2]


class ViewedSample:
    """One sample with its views, each computed when it is asked for, and once.

    A view of one field hands its transforms the value; a view of several hands them a mapping of those that are
    there, and they draw once for all. `epoch` None is the deterministic form (the generator is None).
    """

    def __init__(
        self, sample: Mapping[str, Any], views: Mapping[str, View], *, id: str, seed: int, epoch: int | None, turn: int
    ) -> None:
        self.sample, self.views, self.id = sample, views, id
        self.seed, self.epoch, self.turn = seed, epoch, turn
        self._drawn: dict[tuple[str, int], dict[str | None, Any]] = {}

    def get(self, target: Target) -> Any:
        """The value of a field or view; a list over `copy` where the view has copies and none was picked."""
        if target.section == "fields":
            value = self.sample[target.name]
            return value if target.index is None or value is None else value[target.index]
        copies = copies_of(target.name, self.views)
        if target.index is not None or copies == 1:
            return self._draw(target.name, target.index or 0)[target.output]
        return [self._draw(target.name, copy)[target.output] for copy in range(copies)]

    def _draw(self, name: str, copy: int) -> dict[str | None, Any]:
        if (name, copy) in self._drawn:
            return self._drawn[name, copy]
        view = self.views[name]
        values: dict[str, Any] = {of: self.get(self._input(of, name, copy)) for of in view.of}
        facts: dict[str, Any] = {}
        present: dict[str, Any] = {of: value for of, value in values.items() if value is not None}
        if present:
            for place, transform in enumerate(view.apply):
                present, added = self._apply(transform, present, len(view.of) == 1, (name, copy, place))
                facts.update(added)
        else:
            facts = {fact: None for transform in view.apply for fact in transform.adds}
        drawn: dict[str | None, Any] = {short_name(of): present.get(of) for of in view.of}
        drawn.update(facts)
        drawn[None] = present.get(view.of[0])
        self._drawn[name, copy] = drawn
        return drawn

    def _input(self, of: str, view: str, copy: int) -> Target:
        target = input_of(of, view, self.views)
        if target.section == "views" and target.index is None and copies_of(target.name, self.views) > 1:
            return Target("views", target.name, index=copy, output=target.output)
        return target

    def _apply(
        self, transform: Transform, present: dict[str, Any], single: bool, at: tuple[str, int, int]
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        view, copy, place = at
        generator = None
        if self.epoch is not None:
            # A sample that a batch holds several times (repeated augmentation) draws anew each time.
            many = copy + self.turn * copies_of(view, self.views)
            generator = numpy_generator(self.seed, "view", self.epoch, self.id, view, many, place)
        (of,) = present if single else ("",)
        result = transform.apply(present[of] if single else present, generator)
        facts: Mapping[str, Any] = {}
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
            result, facts = result
        return ({of: result} if single else dict(result)), facts


def _less(axes: tuple[str, ...]) -> tuple[str, ...]:
    return (axes[0], *axes[2:])


def _one(target: Target, views: Mapping[str, View]) -> Target:
    """A copy of a view stands for each: inside a view, the axis `copy` is not there."""
    if target.section == "views" and target.index is None and copies_of(target.name, views) > 1:
        return Target("views", target.name, index=0, output=target.output)
    return target
