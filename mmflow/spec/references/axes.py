"""Declared types of an entry's inputs, held against its component: group axes, the axis of rows, what a loss fits."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Evaluator, Loss, Memory, Sampler, Stage
from mmflow.plugin.targets import Place, Target
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.resolver import Resolver, as_written


def check_axes(
    resolver: Resolver, entry: Entry, made: Loss | Memory | Evaluator, targets: Mapping[Place, Target]
) -> None:
    known: tuple[str, ...] = getattr(type(made), "axes", ())
    if isinstance(made, Loss) and made.scope() == "row":
        # Members of groups are rows of their own there.
        known = (*known, "*")
    rows: dict[str, str] = {}
    for place, target in targets.items():
        if isinstance(made, Evaluator) and check_sampled(resolver, entry, made, place, target):
            return
        if place[0] != "of" or target.section not in ("encoders", "views", "fields"):
            continue
        declared = resolver.type_of(target)
        if declared is None:
            continue
        name = str(target)
        for axis, size in zip(declared.axes[1:], [*declared.groups, *([None] * 8)], strict=False):
            if axis in known or "*" in known:
                continue
            what = {"copy": "copies"}.get(axis, f"of the axis {axis}")
            count = f"{size} {what}" if size is not None else f"the axis {axis}"
            hint = f"write {name}.0, or use a {made.kind} that takes the axis {axis}"
            message = f"{name} has {count}, which {made.use} does not take"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            break
        rows.setdefault(declared.axes[0] if declared.axes else "", name)
    if len(rows) > 1 and not set(rows) & set(known) and isinstance(made, Loss | Memory):
        said = " and ".join(f"{name} of {axis}" for axis, name in rows.items())
        problem = entry.problem(f"{made.use} compares rows: {said}", ("of",), hint="use one row axis")
        resolver.report(entry, ("of",), problem)


def check_sampled(resolver: Resolver, entry: Entry, made: Stage, place: Place, target: Target) -> bool:
    """Report a reference of a measuring stage to something that has rows of its own, and no samples; True if so."""
    here = target.section in ("fields", "views", "encoders") and target.stage is None
    declared = resolver.type_of(target) if here else None
    if declared is None or not declared.static:
        return False
    row = declared.axes[0] if declared.axes else "its own"
    message = f"not yet: {made.use} of rows that are no samples (`{target}` has the rows of `{row}`)"
    hint = "measure an encoder or a field that has a value for each sample"
    resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
    return True


def check_types(resolver: Resolver, entry: Entry, made: Loss, targets: Mapping[Place, Target]) -> None:
    """Whether the loss takes inputs of these declared types, where all of `of` are known."""
    types = {place: resolver.type_of(target) for place, target in targets.items()}
    of = [declared for place, declared in types.items() if place[0] == "of" and declared is not None]
    if len(of) < sum(place[0] == "of" for place in types):
        return
    single = {str(place[0]): declared for place, declared in types.items() if len(place) == 1 and declared is not None}
    try:
        made.fits(of, single)
    except ComponentError as error:
        message = f"{made.use} does not fit its inputs: {error}"
        found, expected, hint = error.found or None, error.expected or None, error.hint or None
        problem = entry.problem(message, ("of",), found=found, expected=expected, hint=hint)
        resolver.report(entry, ("of",), problem)


def check_members(resolver: Resolver, entry: Entry, made: Evaluator, targets: Mapping[Place, Target]) -> None:
    """Whether the references in `of` that must have a group a row have one, with as many members."""
    for number, wanted in made.members.items():
        target = targets.get(("of", number))
        declared = resolver.type_of(target) if target is not None and target.section == "encoders" else None
        if target is None or declared is None or declared.modality == "unknown":
            continue
        known = declared.groups[0] if declared.groups else None
        if len(declared.axes) == 2 and (wanted is None or known in (None, wanted)):
            continue
        many = "a group of candidates" if wanted is None else f"{wanted} values"
        found = "one value a row" if len(declared.axes) < 2 else f"the axes {', '.join(declared.axes[1:])} of {known}"
        place = ("of", number)
        problem = entry.problem(
            f"{made.use} needs {many} a row of `{target}`", as_written(entry, place), found=found,
            hint="encode a field that holds a list a row",
        )  # fmt: skip
        resolver.report(entry, place, problem)


def check_ungrouped(resolver: Resolver, entry: Entry, made: Sampler, targets: Mapping[Place, Target]) -> None:
    """Whether what a sampler reads has one value a sample, where the sampler does not say that it takes several."""
    for place, target in targets.items():
        declared = resolver.type_of(target)
        if declared is None or "*" in made.axes or set(declared.axes[1:]) <= set(made.axes):
            continue
        at = ("sampler", *place)
        problem = entry.problem(
            f"the sampler {made.use} goes by one value a sample, and {target} has several",
            as_written(entry, at), found=f"the axis {declared.axes[1]}", hint=f"write {target}.0 for the first",
        )  # fmt: skip
        resolver.report(entry, at, problem)
