"""The groups of stages inside a stage: what is wrong between them and the stage around, and how they are run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mmflow.plugin.kinds import InnerGroup
from mmflow.plugin.references import words
from mmflow.plugin.targets import INIT, STAGE, Owner, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.components.refresh import GroupEntry, bare
from mmflow.spec.components.stages import StageEntry
from mmflow.spec.references.endings import main_of
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.references.wanted import is_kept
from mmflow.spec.text.problems import Problem, did_you_mean


def group_problems(stage: StageEntry, resolvers: Mapping[str, Resolver]) -> Iterator[Problem]:
    """Metrics that no stage inside measures, and values that none gives to the next time."""
    made = stage.declaration
    for place, named in made.judges().items() if made is not None else ():
        if found := _misjudged(stage, named, resolvers):
            message, hint = found
            yield stage.entry.problem(message, place, hint=hint)
    yield from _out_of_order(stage, resolvers)
    for group in stage.groups.values():
        for name, target in _given(stage, group).items():
            there = stage.inner.get(target.name)
            kind = ((there.gives if there is not None else None) or {}).get(target.output or "")
            if there is not None and there.gives is not None and kind != "Static":
                statics = [output for output, kind in there.gives.items() if kind == "Static"]
                inside = words(target.name)[-1]
                hint = f"write {inside}.{statics[0]}" if statics else "name a stage that gives one"
                yield stage.entry.problem(
                    f"{name} is a number, and goes on as a static output that holds one",
                    (*group.path, "next", name), found=f"`{group.following[name].value}`", hint=hint,
                )  # fmt: skip


def _out_of_order(stage: StageEntry, resolvers: Mapping[str, Resolver]) -> Iterator[Problem]:
    """Stages of a group run in the order in which they are written."""
    done: set[str] = set()
    for full, inner in stage.inner.items():
        for place, target in resolvers[full].targets(STAGE).items():
            if target.section == "stages" and target.name in stage.inner and target.name not in done:
                above, name = words(bare(full))[-1], words(target.name)[-1]
                message = f"{above} reads {name}, which runs after it"
                if bare(full) == target.name:
                    message = f"{above} reads itself"
                yield inner.entry.problem(message, place, hint=f"write {name} above {above}")
        done.add(bare(full))


def _misjudged(stage: StageEntry, named: str, resolvers: Mapping[str, Resolver]) -> tuple[str, str | None] | None:
    """Why a metric of a stage inside is none, and the fix."""
    group, inside, metric = (*named.split(".", 2), "", "")[:3]
    measuring = [
        f"{inner.place.group}.{inner.place.stage}"
        for inner in stage.inner.values()
        if inner.place is not None and not inner.place.later and _measures(inner)
    ]
    otherwise = "add a group to `refresh` with a stage that measures: {dev: {stages: {score: {use: retrieval, ...}}}}"
    if group not in stage.groups:
        hint = did_you_mean(f"{group}.{inside}", measuring, otherwise=otherwise)
        return f"there is no group `{group}` in `refresh`", hint
    if not inside or inside not in stage.groups[group].inside:
        hint = did_you_mean(f"{group}.{inside}", measuring, otherwise=otherwise)
        return f"there is no stage `{inside}` in the group {group}" if inside else f"`{named}` names no stage", hint
    full = f"{stage.name}.{group}.{inside}"
    if not _measures(stage.inner[full]):
        hint = f"write {measuring[0]}.METRIC" if measuring else otherwise
        return f"the stage {inside} measures nothing", hint
    if not metric:
        return f"`{named}` names no metric", f"write {named}.METRIC, such as {named}.accuracy"
    model = resolvers[full].targets(STAGE).get(("model",))
    if model is not None and model.name != stage.name and model.name not in stage.inner:
        said = "the untrained model" if model.name == INIT else f"the model of {model.name}"
        return f"the stage {inside} measures {said}, which this training does not change", "leave out its `model`"
    return None


def _measures(stage: StageEntry) -> bool:
    return stage.gives is None or "Metrics" in stage.gives.values()


def _given(stage: StageEntry, group: GroupEntry) -> dict[str, Target]:
    """By carried number, the output of a stage inside that it is the next time."""
    found: dict[str, Target] = {}
    for name, (inside, rest) in group.sources().items():
        full = f"{stage.name}.{group.name}.{inside}"
        gives = (stage.inner[full].gives if full in stage.inner else None) or {}
        found[name] = Target("stages", full, output=".".join(rest) or main_of(gives))
    return found


def inner_groups(
    stage: StageEntry, resolvers: Mapping[str, Resolver], reached: Sequence[Owner]
) -> dict[str, InnerGroup]:
    """The groups as they are run; `reached` are the entries that the stage around needs."""
    read = _stages_read(resolvers[stage.name], (STAGE, *reached))
    types = resolvers[stage.name].given()
    declared = {out: one if isinstance(one := types.get(out), TensorType) else None for out in stage.published()}
    published = {out: one for out, one in stage.published().items() if is_kept(one[2], declared[out])}
    found: dict[str, InnerGroup] = {}
    for name, group in stage.groups.items():
        places = {full: one for full, one in stage.inner.items() if one.place is not None and one.place.group == name}
        first = {words(full)[-1]: full for full, one in places.items() if one.place and not one.place.later}
        later = {one.place.stage: full for full, one in places.items() if one.place and one.place.later}
        given = _given(stage, group)
        seen = [read for full in later.values() for read in _stages_read(resolvers[full], (STAGE,))]
        found[name] = InnerGroup(
            name=name,
            stages=first,
            later=later or first,
            numbers={full: one.numbers for full, one in places.items() if one.numbers},
            given=given,
            read=frozenset(first.values()) & read,
            remembered=frozenset(bare(read) for read in seen if read != bare(read)),
            published={out: one for out, one in published.items() if one[0] in places},
        )  # fmt: skip
    return found


def _stages_read(resolver: Resolver, roots: Sequence[Owner]) -> set[str]:
    owners = {STAGE, *resolver.reach(*roots)}
    return {t.name for owner in owners for t in resolver.targets(owner).values() if t.section == "stages"}
