"""The stages of a spec as written: `train`, `stages` and `eval` in one order, with the sections that each carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Stage
from mmflow.plugin.references import Data, Written, reference_fields, words
from mmflow.spec.components.classes import VALUES
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.named import at_key, name_is_good, validated
from mmflow.spec.components.refresh import GroupEntry, Inner, bare, read_groups, without_groups
from mmflow.spec.components.renamed import kinds_named, up_to_date
from mmflow.spec.components.repeat import Iteration, RepeatEntry, is_repeat
from mmflow.spec.components.validate import find_class, validate_component
from mmflow.spec.text.document import Node
from mmflow.spec.text.expand import merge
from mmflow.spec.text.problems import Path, Place, Problem, did_you_mean

OVERRIDES = ("views", "encoders", "memories", "losses")
"""Sections that a stage may carry, merged over the global ones."""

MOST_IN_ALL = 1000
"""Stages at most, each iteration of a `repeat` with its own."""


@dataclass
class StageEntry:
    """A stage as written: its entry, the sections that it carries, and what is known of it."""

    entry: Entry
    overrides: dict[str, Node] = field(default_factory=dict)
    component: type[Component] | None = None
    sound: bool = True
    """False for a stage inside a repetition that is broken, of which nothing is known."""
    iteration: Iteration | None = None
    """Of a stage inside a repetition."""
    place: Inner | None = None
    """Of a stage inside another."""
    numbers: dict[Path, str] = field(default_factory=dict)
    """Of such a stage: the places of numbers that are others from the second time on, with their carried names."""
    groups: dict[str, GroupEntry] = field(default_factory=dict)
    """The groups of stages inside this one."""
    inner: dict[str, StageEntry] = field(default_factory=dict)
    """The stages inside this one, by their full names."""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def declaration(self) -> Stage | None:
        made = self.entry.component
        return made if isinstance(made, Stage) else None

    @property
    def gives(self) -> Mapping[str, str] | None:
        """The stage's outputs; None where they are unknown."""
        if self.component is None or not self.sound or not issubclass(self.component, Stage):
            return None
        own = self.component.gives if self.declaration is None else self.declaration.given()
        return {**own, **{name: kind for name, (_, _, kind) in self.published().items()}}

    def published(self) -> dict[str, tuple[str, str, str]]:
        """Values of the stages inside that are outputs of this one: by name (`em.split.centers`) the full name of the
        stage inside, its output, and its type. Those that it names only while it runs are not."""
        return {
            f"{inner.place.group}.{inner.place.stage}.{output}": (full, output, kind)
            for full, inner in self.inner.items()
            if inner.place is not None and not inner.place.later
            for output, kind in (inner.gives or {}).items()
            if kind in VALUES and output != "*"
        }


def read_stages(
    train: Node | None,
    named: Mapping[str, Mapping[str, Node]],
    repeats: dict[str, RepeatEntry],
    data: dict[str, Entry],
    problems: list[Problem],
) -> dict[str, StageEntry]:
    """Every stage in order: `train`, then `stages`, then `eval`, which so measures the last model.

    Instead of a stage that repeats others stand those of all its iterations.
    """
    written: list[tuple[str, Path, Node]] = []
    if train is not None and train.value is not None:
        written.append(("train", ("train",), _with_use(train, "train")))
    written += [(name, ("stages", name), node) for name, node in named["stages"].items()]
    written += [(name, ("eval", name), node) for name, node in named["eval"].items()]
    _bound(written, repeats, problems)
    found: dict[str, StageEntry] = {}
    taken: dict[str, Node] = {}

    def is_new(name: str, path: Path, node: Node) -> bool:
        if name not in taken:
            return True
        first, _ = taken[name].place((), key=True)
        also = (Place("the first is at", first),)
        problems.append(at_key(node, path, f"two stages are called {name}", also=also, hint="rename one of the two"))
        return False

    for name, _, node in written:
        taken.setdefault(name, node)
    for name, repeat in repeats.items():
        new = [is_new(stage, (*repeat.entry.path, "stages", stage), node) for stage, node in repeat.inside.items()]
        repeats[name] = replace(repeat, sound=repeat.sound and all(new))
    taken.clear()
    for name, path, node in written:
        if not is_new(name, path, node):
            continue
        taken[name] = node
        if not is_repeat(node):
            found[name] = _stage(Entry("stages", name, path, node), data, problems)
        elif name in repeats:
            found |= _iterations(repeats[name], data, problems)
    _check_names(found, repeats, [name for name, _, _ in written], problems)
    if len(found) + sum(len(stage.inner) for stage in found.values()) > MOST_IN_ALL:
        stage = list(found.values())[-1]
        hint = "repeat less often, or split the spec"
        message = f"more than {MOST_IN_ALL} stages with all iterations and those inside others"
        problems.append(stage.entry.problem(message, key=True, hint=hint))
        return dict(islice(found.items(), MOST_IN_ALL))
    return found


def _bound(written: list[tuple[str, Path, Node]], repeats: dict[str, RepeatEntry], problems: list[Problem]) -> None:
    """Leave out the repetitions that make more than `MOST_IN_ALL` stages, before any of these is looked at."""
    count = len(written)
    for name, repeat in list(repeats.items()):
        count += repeat.repetition.times * len(repeat.inside)
        if count > MOST_IN_ALL:
            message = f"more than {MOST_IN_ALL} stages with all iterations"
            problems.append(repeat.entry.problem(message, key=True, hint="repeat less often, or split the spec"))
            del repeats[name]


def _iterations(repeat: RepeatEntry, data: dict[str, Entry], problems: list[Problem]) -> dict[str, StageEntry]:
    found: dict[str, StageEntry] = {}
    for iteration, node in repeat.iterations(problems if repeat.sound else []):
        name = repeat.repetition.stage(iteration.index, iteration.stage)
        path = (*repeat.entry.path, "stages", iteration.stage)
        entry = Entry("stages", name, path, node)
        found[name] = _stage(entry, data, problems) if repeat.sound else StageEntry(entry, sound=False)
        found[name].iteration = iteration
    if repeat.repetition.until is not None and repeat.sound:
        stage, metric = repeat.repetition.judged
        judge = found.get(repeat.repetition.stage(0, stage))
        place = ("until", "metric")
        if judge is None:
            hint = did_you_mean(stage, repeat.inside, otherwise="name a stage inside that measures")
            problems.append(
                repeat.entry.problem(f"there is no stage `{stage}` in {repeat.entry.name}", place, hint=hint)
            )
        elif "Metrics" not in (judge.gives or {"": "Metrics"}).values():
            hint = "name a stage inside that measures"
            problems.append(repeat.entry.problem(f"the stage {stage} measures nothing", place, hint=hint))
        elif not metric:
            problems.append(repeat.entry.problem(f"`{stage}` names no metric", place, hint=f"write {stage}.METRIC"))
    return found


def _check_names(
    stages: Mapping[str, StageEntry],
    repeats: Mapping[str, RepeatEntry],
    outside: Sequence[str],
    problems: list[Problem],
) -> None:
    """Whether names of groups and of stages inside another are those of stages that it sees."""
    for stage in stages.values():
        beside = repeats[stage.iteration.repeat].inside if stage.iteration is not None else {}
        known = {*outside, *beside}
        for group in stage.groups.values():
            if group.name in known:
                path = group.path
                problems.append(
                    stage.entry.problem(
                        f"a stage is called {group.name} too", path, key=True, hint="rename one of them"
                    )
                )
            for name in group.inside:
                if name in known or name in stage.groups:
                    message = f"a stage or group outside is called {name} too"
                    place = (*group.path, "stages", name)
                    problems.append(stage.entry.problem(message, place, key=True, hint="rename one of the two"))


def _with_use(node: Node, use: str) -> Node:
    if not isinstance(node.value, Mapping) or "use" in node.value:
        return node
    return replace(node, value={"use": Node(use, node.mark), **node.value})


def _stage(entry: Entry, data: dict[str, Entry], problems: list[Problem]) -> StageEntry:
    overrides = {
        section: node
        for section, node in entry.node.entries().items()
        if section in OVERRIDES and not (section == "losses" and not isinstance(node.value, Mapping))
    }
    for section, node in overrides.items():
        if not isinstance(node.value, Mapping):
            expected = "named entries, merged over the global ones"
            problems.append(entry.problem("", (section,), found=node.shown(), expected=expected))
    if isinstance(entry.node.value, Mapping):
        kept = {name: child for name, child in entry.node.value.items() if name not in overrides}
        entry = replace(entry, node=replace(entry.node, value=kept))
    entry = up_to_date(entry, kinds_named("stage"), problems)
    component, fields = find_class(entry, "stage", problems)
    if component is None:
        return StageEntry(entry, overrides)
    inside = component.inner if issubclass(component, Stage) else ""
    groups = read_groups(entry, inside, problems) if inside else {}
    whole = entry.node
    if groups:
        entry = replace(entry, node=without_groups(whole, inside))
        fields = {name: value for name, value in entry.node.plain().items() if name != "use"}
    stage = StageEntry(entry, overrides, component)
    entry, fields = _inline_data(entry, component, fields, data, problems)
    stage.entry = entry
    stage.entry = replace(entry, component=validate_component(entry, component, fields, problems))
    if groups:
        # Problems of what is written inside are told at their places.
        stage.entry = replace(
            stage.entry,
            node=replace(whole, value={**whole.entries(), **entry.node.entries(), inside: whole.entries()[inside]}),
        )
        stage.groups, stage.inner = groups, _inner(groups, data, problems)
    return stage


def _inner(groups: Mapping[str, GroupEntry], data: dict[str, Entry], problems: list[Problem]) -> dict[str, StageEntry]:
    """The stages of groups inside a stage, in the form of the first time and that of later ones."""
    found: dict[str, StageEntry] = {}
    for group in groups.values():
        for place, node, numbers in (*group.first(problems), *group.later(problems)):
            path = (*group.entry.path, *group.path, "stages", place.stage)
            stage = _stage(Entry("stages", place.name, path, node), data, problems)
            stage.place, stage.numbers = place, numbers
            if stage.component is not None and issubclass(stage.component, Stage) and stage.component.trains:
                hint = "let it be a stage of its own, or a `repeat`"
                message = f"{place.stage} trains inside a stage that trains"
                problems.append(stage.entry.problem(message, ("use",), hint=hint))
                stage.entry = replace(stage.entry, component=None)
            found[place.name] = stage
    return found


def _inline_streams(
    entry: Entry, fields: dict[str, Written], data: dict[str, Entry], problems: list[Problem]
) -> tuple[Entry, dict[str, Written]]:
    """Sources written where streams name an entry of data become entries of their own."""
    streams = entry.node.child("data")
    if streams is None or not isinstance(streams.value, Mapping) or "use" in streams.value:
        return entry, fields
    named: dict[str, Node] = {}
    for name, node in streams.entries().items():
        inner = node.child("data")
        long = inner is not None and isinstance(inner.value, Mapping)
        source = inner if long and inner is not None else node
        if not isinstance(source.value, Mapping) or "use" not in source.value:
            named[name] = node
            continue
        path = (*entry.path, "data", name, *(("data",) if long else ()))
        made = Node(_anonymous(entry, f"data_{name}", path, source, data, problems), source.mark, source.key)
        named[name] = replace(node, value={**node.entries(), "data": made}) if long else made
    assert isinstance(entry.node.value, Mapping)
    node = replace(entry.node, value={**entry.node.value, "data": replace(streams, value=named)})
    return replace(entry, node=node), {**fields, "data": {name: one.plain() for name, one in named.items()}}


def _anonymous(entry: Entry, name: str, path: Path, node: Node, data: dict[str, Entry], problems: list[Problem]) -> str:
    """The name of a new entry of data for a source that is written in a stage."""
    # One for all iterations of a stage that is repeated.
    found = f"{'_'.join(word for word in words(bare(entry.name)) if not word.isdecimal())}_{name}"
    while found in data and data[found].node != node:
        found += "_"
    data[found] = validated(Entry("data", found, path, node), problems)
    return found


def _inline_data(
    entry: Entry,
    component: type[Component],
    fields: dict[str, Written],
    data: dict[str, Entry],
    problems: list[Problem],
) -> tuple[Entry, dict[str, Written]]:
    """A source written where an entry of data is named becomes an entry of its own."""
    for name, types in reference_fields(component).items():
        node = entry.node.entries().get(name)
        if Data not in types or node is None or not isinstance(node.value, Mapping) or "use" not in node.value:
            continue
        anonymous = _anonymous(entry, name, (*entry.path, name), node, data, problems)
        assert isinstance(entry.node.value, Mapping)
        named = {**entry.node.value, name: Node(anonymous, node.mark, node.key)}
        entry = replace(entry, node=replace(entry.node, value=named))
        fields = {**fields, name: anonymous}
    return _inline_streams(entry, fields, data, problems)


def merged_entries(
    base: Mapping[str, Mapping[str, Entry]], stage: StageEntry, problems: list[Problem]
) -> dict[str, dict[str, Entry]]:
    """The sections as one stage sees them: the global entries with its own merged over them."""
    found = {section: dict(entries) for section, entries in base.items()}
    for section, node in stage.overrides.items():
        for name, child in node.entries().items():
            path = (*stage.entry.path, section, name)
            below = found[section].get(name)
            if child.value is None:
                if below is None:
                    hint = did_you_mean(name, found[section], otherwise="there is nothing to remove")
                    problems.append(at_key(child, path, f"there is no `{name}` in `{section}`", hint=hint))
                found[section].pop(name, None)
            elif below is None and isinstance(child.value, Mapping) and "use" not in child.value:
                hint = did_you_mean(name, found[section], otherwise="begin with {use: NAME, ...} to add one")
                problems.append(at_key(child, path, f"there is no `{name}` in `{section}` to change", hint=hint))
            elif below is None:
                if name_is_good(child, path, problems):
                    entry = Entry(section, name, path, child, own=tuple(child.entries()))
                    found[section][name] = validated(entry, problems)
            elif below.component is None:
                found[section][name] = replace(below, path=path, node=child)
            else:
                entry = Entry(section, name, path, merge(below.node, child), own=tuple(child.entries()))
                found[section][name] = validated(entry, problems)
    return found
