"""The row axes of a node's inputs, held against each other: indices that gather rows, rows that meet."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.kinds import Encoder, Loss, Memory
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import of_samples
from mmflow.spec.components.entry import Entry
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
    """Whether rows that a node gathered meet no rows of samples."""
    encoders = resolver.seen.entries["encoders"].values()
    nodes = [one.owner for one in encoders if isinstance(one.component, Encoder) and one.component.rows]
    indices = [resolver.type_of(target) for owner in nodes for target in resolver.gathered(owner).values()]
    gathered = {index.axes[0] for index in indices if index is not None and index.axes}
    met: dict[str, Target] = {}
    for place, target in targets.items() if gathered else ():
        if place[0] == "weights" or (isinstance(made, Encoder) and (made.rows or place[0] == "rows")):
            continue
        declared = resolver.type_of(target) if target.section != "memories" else None
        axis = declared.axes[0] if declared is not None and declared.axes else ""
        if axis in gathered or of_samples(axis):
            met.setdefault(axis, target)
        if len(met) > 1 and set(met) & gathered:
            pair = next(axis for axis in met if axis in gathered)
            other = next(t for axis, t in met.items() if axis != pair)
            message = f"`{other}` has a row for each sample, and `{met[pair]}` one for each {pair}"
            hint = f"take its rows with `rows`, or use what has the axis {pair}"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            return False
    return True
