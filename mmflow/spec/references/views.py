"""Views over the fields of any source: where their references lead, and the types that they give."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import View
from mmflow.plugin.references import words
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.references.types import Types


def input_of(name: str, view: str, views: Mapping[str, View]) -> Target:
    """The target of a name in the `of` of `view`: another view, else a field (its own name means the field)."""
    parts = list(words(name))
    section = ""
    if parts[0] in ("fields", "views") and len(parts) > 1:
        section, parts = parts[0], parts[1:]
    if section == "fields" or (not section and (parts[0] == view or parts[0] not in views)):
        member = int(parts.pop()) if len(parts) > 1 and parts[-1].isdecimal() else None
        return Target("fields", ".".join(parts), index=member)
    index = next((int(p) for p in parts[1:] if p.isdecimal()), None)
    output = ".".join(p for p in parts[1:] if not p.isdecimal()) or None
    return Target("views", parts[0], index=index, output=output)


def inputs_of(name: str, views: Mapping[str, View]) -> list[Target]:
    """The targets of the `of` of a view, in order."""
    return [input_of(of, name, views) for of in views[name].of]


def copies_of(name: str, views: Mapping[str, View]) -> int:
    """How many copies a view has, its own or those of a view that it reads."""
    found: dict[str, int] = {}
    for one in _behind(name, views):
        whole = [t.name for t in inputs_of(one, views) if t.section == "views" and t.index is None]
        found[one] = views[one].copies_of(*(found[inner] for inner in whole))
    return found[name]


def fields_of(target: Target, views: Mapping[str, View]) -> Collection[str]:
    """Names of the source's fields that a target is made of."""
    if target.section != "views":
        return (target.name,) if target.section == "fields" else ()
    read = [inner for name in _behind(target.name, views) for inner in inputs_of(name, views)]
    return tuple(dict.fromkeys(inner.name for inner in read if inner.section == "fields"))


def needs_batch(target: Target, views: Mapping[str, View]) -> bool:
    """Whether a transform that mixes the rows of a batch stands behind a target."""
    behind = _behind(target.name, views) if target.section == "views" else ()
    return any(transform.per_batch for name in behind for transform in views[name].apply)


def numbers_of(targets: Iterable[Target], views: Mapping[str, View], fields: Mapping[str, TensorType]) -> int:
    """The numbers that fields and views hold in one row, as far as declared, with all that is made of them on the way.

    Raises as `ViewTypes.column` does.
    """
    types = ViewTypes(views, fields)
    wanted = list(targets)
    total = sum(_numbers(types.column(target)) for target in wanted)
    for name in dict.fromkeys(view for t in wanted if t.section == "views" for view in _behind(t.name, views)):
        inner = [types.column(target) for target in inputs_of(name, views)]
        total += sum(map(_numbers, inner))
        for transform in views[name].apply:
            inner = [transform.result(type_) for type_ in inner]
            total += sum(map(_numbers, inner)) * views[name].copies
    return total


def _numbers(type_: TensorType) -> int:
    return prod(size for size in (*type_.groups, *type_.size) if size is not None)


def _behind(name: str, views: Mapping[str, View]) -> tuple[str, ...]:
    """A view and all views that it is made of, each once and after those that it reads."""
    found: dict[str, None] = {}

    def visit(one: str) -> None:
        for inner in inputs_of(one, views):
            if inner.section == "views" and inner.name not in found:
                visit(inner.name)
        found[one] = None

    visit(name)
    return tuple(found)


class ViewTypes(Types):
    """The types of views over the fields of one source, which may differ from those that the spec was checked with."""

    def __init__(self, views: Mapping[str, View], fields: Mapping[str, TensorType]) -> None:
        super().__init__(fields)
        self.views = views

    def column(self, target: Target) -> TensorType:
        """The declared type of a field, a view or a field that a view adds, axis `copy` included.

        Raises `KeyError` where there is none, and `ComponentError` where a view does not fit its inputs.
        """
        whole = self.type_of(Target(target.section, target.name, output=target.output))
        if whole is None:
            if target.section == "views" and (known := self.outputs_of(target.owner)):
                raise KeyError(f"view {target.name!r} has no output {target.output!r}; it has {', '.join(known)}")
            raise KeyError(f"no field {target.name!r}; there are {', '.join(sorted(self.fields or ()))}")
        if target.index is None:
            return whole
        size = whole.groups[0] if whole.groups else None
        if size is not None and target.index >= size:
            raise KeyError(f"{target.section[:-1]} {target.name!r} has {size} copies: there is no copy {target.index}")
        return whole.member()

    def fitted(self, targets: Iterable[Target]) -> dict[str, View]:
        """All views, those behind `targets` with their transforms fitted to the types that they meet there."""
        found = dict(self.views)
        names = [target.name for target in targets if target.section == "views"]
        for name in names:
            inner = inputs_of(name, self.views)
            found[name] = self.views[name].fitted(*map(self.column, inner))
            names += [target.name for target in inner if target.section == "views" and target.name not in names]
        return found

    def component(self, owner: Owner) -> View | None:
        return self.views.get(owner.name) if owner.section == "views" else None

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        return {("of", place): target for place, target in enumerate(inputs_of(owner.name, self.views))}

    def other(self, stage: str) -> None:
        return None

    def sampler_fields(self) -> None:
        return None

    def circle(self, owners: Sequence[Owner]) -> None:
        raise ComponentError(f"views that read each other: {', '.join(owner.name for owner in owners)}")

    def refused(self, owner: Owner, message: str, hint: str | None = None) -> None:
        raise ComponentError(f"view {owner.name!r}: {message}", hint=hint or "")
