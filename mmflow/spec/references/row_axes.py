"""The row axes of a node's inputs, held against each other: indices that gather rows, rows that meet."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.binding import binding
from mmflow.plugin.component import Component, ComponentError, nested_components
from mmflow.plugin.kinds import Encoder, Loss, Memory, View
from mmflow.plugin.numbers import BatchValue
from mmflow.plugin.streams import stream_of
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import of_samples
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.moving import NO_BATCH, knows_the_batch, of_the_batch
from mmflow.spec.references.resolver import Resolver, as_written


def check_gathered(resolver: Resolver, entry: Entry, owner: Owner, made: Encoder) -> bool:
    """Whether `rows` has an index for each input, all of one axis."""
    targets = resolver.gathered(owner)
    inputs = resolver.inputs(owner)
    if not targets:
        return True
    count = len(made.rows)
    if count and count != len(inputs):
        hint = "write one index for each input, in their order"
        found = f"{count} in `rows`, {len(inputs)} in `of`"
        resolver.report(entry, ("rows",), entry.problem(f"{made.use} takes rows", ("rows",), found=found, hint=hint))
        return False
    axes = {place: found.axes[0] for place, t in targets.items() if (found := resolver.type_of(t)) and found.axes}
    for place, axis in axes.items():
        first = next(iter(axes.values()))
        if axis != first:
            message = f"the indices of `rows` name rows of the axes {first} and {axis}"
            hint = "take them from one miner"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            return False
    return True


def check_pairing(
    resolver: Resolver, entry: Entry, made: Encoder | Loss | Memory, targets: Mapping[Place, Target]
) -> bool:
    """Whether rows that a node gathered meet no rows of samples, and the columns of a memory are of the same rows."""
    met: dict[str, Target] = {}
    if isinstance(made, Memory):
        for place, target in targets.items():
            declared = resolver.type_of(target) if place[0] != "initial" else None
            if declared is None or not declared.axes or of_samples(declared.axes[0]):
                continue
            met.setdefault(declared.axes[0], target)
            if len(met) > 1:
                first, *_ = met.values()
                message = f"`{first}` has rows of {next(iter(met))}, and `{target}` rows of {declared.axes[0]}"
                resolver.report(entry, place, entry.problem(message, as_written(entry, place)))
                return False
        met.clear()
    for place, target in targets.items():
        if place[0] == "weights" or (isinstance(made, Encoder) and (made.rows or place[0] == "rows")):
            continue
        declared = resolver.type_of(target) if target.section != "memories" else None
        axis = declared.axes[0] if declared is not None and declared.axes else ""
        gathered = not of_samples(axis) and _gathers(resolver, target.owner, axis)
        if gathered or of_samples(axis):
            met.setdefault(axis, target)
        pair = next((axis for axis in met if not of_samples(axis)), "")
        if pair and len(met) > 1:
            other = next(t for axis, t in met.items() if axis != pair)
            message = f"`{other}` has a row for each sample, and `{met[pair]}` one for each {pair}"
            hint = f"take its rows with `rows`, or use what has the axis {pair}"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            return False
    return True


def _gathers(resolver: Resolver, owner: Owner, axis: str, passed: tuple[Owner, ...] = ()) -> bool:
    """Whether an encoder has rows that an index names, or gives the index, or reads an encoder with such rows."""
    if not isinstance(resolver.component(owner), Encoder):
        return False
    if resolver.gathered(owner) or any(
        declared.modality == "index" and declared.axes[:1] == (axis,)
        for declared in (resolver.outputs_of(owner) or {}).values()
    ):
        return True
    # Circles are told elsewhere, and must not go round here.
    passed = (*passed, owner)
    inner = [
        target for target in resolver.inputs(owner).values() if target.stage is None and target.owner not in passed
    ]
    types = [(target.owner, resolver.type_of(target)) for target in inner]
    alike = [one for one, declared in types if declared is not None and declared.axes[:1] == (axis,)]
    return any(_gathers(resolver, one, axis, passed) for one in alike)


def check_streams(
    resolver: Resolver, entry: Entry, made: View | Encoder | Loss | Memory, targets: Mapping[Place, Target]
) -> bool:
    """Whether rows of several streams meet only where they pair, or where a component takes them as they are."""
    drawn = resolver.stage.drawn() if resolver.stage is not None else {}
    if "" in drawn or not drawn:
        return True
    met: dict[str, tuple[Place, Target]] = {}
    for place, target in targets.items():
        if target.section == "memories" or place[0] in ("weights", *(("rows",) if isinstance(made, Encoder) else ())):
            continue
        if target.section == "stages":
            message = f"`{target}` joins the rows of one stream, and there are {', '.join(drawn)}"
            hint = f"write data: {{{next(iter(drawn))}: {{data: ..., fields: {{NAME: {target}}}}}}}"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            return False
        declared = resolver.type_of(target)
        if declared is not None and declared.axes and (stream := stream_of(declared.axes[0])):
            met.setdefault(stream, (place, target))
    if len(met) < 2 or not getattr(made, "paired", True):
        return True
    sizes = {stream: drawn[stream].size for stream in met if stream in drawn}
    place, target = list(met.values())[1]
    if isinstance(made, View):
        message, hint = "a view reads fields of one stream", "make a view for each stream"
    elif len(set(sizes.values())) > 1:
        said = " and ".join(f"{stream} ({size} a batch)" for stream, size in sizes.items())
        message = f"the rows of {said} do not pair"
        hint = f"give the streams one batch_size, or use a {made.kind} that takes rows of several streams"
    else:
        return True
    resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
    return False


def check_batch_values(resolver: Resolver, entry: Entry, made: Component) -> bool:
    """Whether numbers of the batch stand where the batch is known: in fields of losses and encoders."""
    for place, part in nested_components(made):
        if not isinstance(part, BatchValue) or not place:
            continue
        problem = None
        if not knows_the_batch(made, place):
            problem = entry.problem(of_the_batch(part), place, hint=NO_BATCH)
        else:
            try:
                misfit = binding(part).misfit(len(part.of))
            except ComponentError as error:
                problem = entry.problem(str(error), place, expected=error.expected or None, hint=error.hint or None)
            else:
                if misfit is not None:
                    found = f"{len(part.of)} in `of`"
                    problem = entry.problem(f"value {part.use} takes {misfit}", (*place, "of"), found=found)
        if problem is not None:
            resolver.report(entry, place, problem)
            return False
    return True
