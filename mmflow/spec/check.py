"""`check_document`: every stage of a spec resolved, and every fault of it told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

from mmflow.plugin.component import nested_components
from mmflow.plugin.kinds import DataStage, Source, Stage
from mmflow.plugin.targets import STAGE, Owner
from mmflow.plugin.values import TensorType
from mmflow.spec.assemble import assembled
from mmflow.spec.components.data_paths import filled_in
from mmflow.spec.components.default_models import name_models
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.refresh import bare, time_before
from mmflow.spec.components.renamed import with_columns_of_today
from mmflow.spec.components.sections import Sections, read_sections
from mmflow.spec.components.stages import StageEntry, merged_entries
from mmflow.spec.data_fields import DataFields, data_of
from mmflow.spec.references.chains import chain_problems, circle_of
from mmflow.spec.references.groups import group_problems
from mmflow.spec.references.inputs import check_entry
from mmflow.spec.references.names import INIT, NODES, Seen, StageNames
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.spec import Spec
from mmflow.spec.text.document import Document
from mmflow.spec.text.problems import Problem, Problems, SpecError, did_you_mean

TOLD_UNUSED = ("encoders", "memories", "losses")
"""Sections whose entries are told where no stage uses them and the spec's own file has them; a spec that others extend
may hold more than each of them uses."""
MOST_WORK = 5_000
"""Entries at most that the stages of a spec reach, each as often as a stage needs it."""


def check_document(document: Document) -> Spec:
    """The spec of a document whose `extends` and variables are filled in; raises `SpecError`."""
    problems: list[Problem] = Problems()
    sections = read_sections(document, problems)
    checker = _Checker(sections, problems, document.origin)
    checker.run()
    told = _once(problems, sections)
    errors = [problem for problem in told if not problem.note]
    if errors:
        raise SpecError(errors)
    notes = tuple(problem for problem in told if problem.note)
    return assembled(document, sections, checker.merged, checker.resolvers, notes)


def _once(problems: Sequence[Problem], sections: Sections) -> list[Problem]:
    """Each problem once: all iterations of a repetition have those of the first."""
    iterations = re.compile(rf"\b({'|'.join(map(re.escape, sections.repeats)) or '$^'})\.\d+\.")
    told = {iterations.sub(r"\1.", str(problem)): problem for problem in reversed(problems)}
    return [*reversed(told.values())]


class _Checker:
    """Resolves every stage of a spec and collects what is wrong."""

    def __init__(self, sections: Sections, problems: list[Problem], origin: str) -> None:
        self.sections, self.problems, self.origin = sections, problems, origin
        self.data = DataFields(sections, problems)
        self.resolvers: dict[str, Resolver] = {}
        self.others: dict[str, Resolver] = {}
        """The resolvers, also under the names of stages of a last iteration that is not known yet."""
        self.merged: dict[str, dict[str, dict[str, Entry]]] = {}
        self.checked: set[tuple[str | int, ...]] = set()
        self.roots: dict[str, list[Owner]] = {}
        self.names = StageNames()
        self.work = 0
        """Entries that stages reached so far."""

    def run(self) -> None:
        self.sections.entries["data"] = filled_in(self.sections.entries["data"], self.problems)
        self.data.read_sources()
        base = {section: self.sections.entries[section] for section in NODES}
        for name, stage in self.sections.stages.items():
            self.merged[name] = merged_entries(base, stage, self.problems)
            for inner, place in stage.inner.items():
                self.merged[inner] = merged_entries(self.merged[name], place, self.problems)
        self.names = StageNames.of(self.sections, self.merged, self.streams())
        if found := chain_problems(base, self.merged, self.names):
            self.problems += found
            return
        name_models(self.sections.stages, self.names.repeats)
        every = self.sections.every
        for name, stage in every.items():
            self.prepare(name, stage)
        self.others |= self.resolvers
        self.others |= {name: self.resolvers[stands] for name, stands in self.names.open_ends().items()}
        self.others |= {time_before(name): self.resolvers[name] for name in self.sections.inner}
        for name, stage in every.items():
            self.check_stage(name, stage)
            if self.work > MOST_WORK:
                hint = "split the spec, and let its parts share with `extends`"
                message = f"the stages down to {name} need more than {MOST_WORK:,} entries in all"
                self.problems.append(stage.entry.problem(message, key=True, hint=hint))
                return
        self.check_unreached(base)
        self.check_stage_order()

    def streams(self) -> dict[str, str]:
        """The streams of all stages, each with a stage that has it."""
        made = {name: stage.declaration for name, stage in self.sections.stages.items()}
        return {s: name for name, one in made.items() if isinstance(one, DataStage) for s in one.streams()}

    def prepare(self, name: str, stage: StageEntry) -> None:
        """The resolver of a stage, with the fields of its data."""
        self.rename_columns(name, stage)
        base = {section: self.sections.entries[section] for section in NODES}
        seen = Seen(self.merged[name], tuple(self.sections.entries["data"]), self.names, stage.entry, base)
        resolver = self.resolvers[name] = Resolver(
            seen, partial(_fields_read_by, self.data, stage, self.resolvers, name)
        )
        resolver.others = self.others

    def rename_columns(self, name: str, stage: StageEntry) -> None:
        """Read old names of columns as today's, where the source of a stage's data says what they are called now."""
        made = stage.declaration
        entry = self.sections.entries["data"].get(data_of(made) or "") if made is not None else None
        columns: dict[str, str] = {}
        for _, source in nested_components(entry.component if entry is not None else None):
            columns |= source.renamed_columns if isinstance(source, Source) else {}
        if not columns:
            return
        merged = self.merged[name]
        taken = {node for section in merged.values() for node in section}
        for section, entries in merged.items():
            merged[section] = {
                node: with_columns_of_today(entry, columns, taken - {node}, self.problems)
                for node, entry in entries.items()
            }
        stage.entry = with_columns_of_today(stage.entry, columns, taken, self.problems)

    def check_stage(self, name: str, stage: StageEntry) -> None:
        made, resolver = stage.declaration, self.resolvers[name]
        if made is None:
            return
        targets = resolver.targets(STAGE)
        entries = self.merged[name]
        losses = self.selected(stage, made, entries["losses"])
        self.check_faults(stage, made, entries["losses"])
        self.roots[name] = [STAGE, *(Owner("losses", loss) for loss in losses)]
        self.check_groups(stage, made, entries)
        taken = {entry: section for section in ("memories", "encoders", "views") for entry in entries[section]}
        self.data.check_streams(stage, targets, taken)
        streams = tuple(made.streams()) if isinstance(made, DataStage) else ()
        if not (streams and made.trains):
            self.check_classes(stage, resolver, tuple(f"{stream}." for stream in streams))
        self.problems += group_problems(stage, self.resolvers)
        self.check_reached(resolver, self.roots[name])

    def check_classes(self, stage: StageEntry, resolver: Resolver, streams: tuple[str, ...]) -> None:
        """A stage that reads several entries of data compares their labels by number: a class must have one.

        An entry has no name of a stream before its fields.
        """
        targets = resolver.targets(STAGE)
        read = {target.name: place for place, target in targets.items() if target.section == "data"}
        first, *others = [name for name in read if self.data.fields.get(name)] or [""]
        fields = {target.name for target in targets.values() if target.section == "fields"}
        for field in {f.partition(".")[2] if f.startswith(streams) else f for f in fields} if others else ():
            for other in others:
                one, two = ((self.data.fields[name] or {}).get(field) for name in (first, other))
                if one is None or two is None:
                    continue
                if (said := _numbered_apart(one.names, two.names)) is not None:
                    self.problems.append(
                        stage.entry.problem(
                            said.format(field=field, one=first, two=other),
                            read[other],
                            found=f"{first}: {_listed(one.names)}; {other}: {_listed(two.names)}",
                            hint="name the classes of both in one order (`names` of a column, `classes` of a folder)",
                        )
                    )

    def check_reached(self, resolver: Resolver, roots: Sequence[Owner]) -> None:
        reached = resolver.reach(*roots)
        self.work += len(reached)
        for owner in (*reached, STAGE):
            entry = resolver.entry(owner)
            if entry is not None:
                check_entry(resolver, owner)
                self.checked.add(entry.path)
        seen = {problem.path for problem in self.problems}
        found = {**resolver.problems, **resolver.untrained().problems}
        self.problems += [problem for problem in found.values() if problem.path not in seen]

    def check_unreached(self, base: Mapping[str, Mapping[str, Entry]]) -> None:
        """Entries that no stage uses are checked against the fields of all data."""
        known = list(self.data.fields.values())
        # Of streams as well: an entry that is not used now may be meant for them.
        known += [r.fields for r in self.resolvers.values() if isinstance(r.stage, DataStage) and r.stage.streams()]
        union: dict[str, TensorType] | None = {}
        for fields in known:
            union = None if fields is None or union is None else {**union, **fields}
        if any(stage.declaration is None or not stage.sound for stage in self.sections.every.values()) or not known:
            union = None
        # An entry may be meant for a stage that has such a group.
        groups = {group: None for groups in self.names.groups.values() for group in groups}
        names = replace(self.names, gives={**groups, **self.names.gives})
        resolver = Resolver(Seen(base, tuple(self.sections.entries["data"]), names, None), union)
        unread = [e for entries in base.values() for e in entries.values() if e.path not in self.checked]
        self.check_reached(resolver, [entry.owner for entry in unread])
        if self.sections.complete and self.sections.every:
            self.problems += [
                entry.problem(f"no stage uses {entry.owner}", key=True, hint="leave it out, or let a stage use it",
                              note=True)
                for entry in unread if entry.section in TOLD_UNUSED and entry.node.mark.file == self.origin
            ]  # fmt: skip

    def selected(self, stage: StageEntry, made: Stage, losses: Mapping[str, Entry]) -> list[str]:
        """Names of the losses that a stage minimizes."""
        wanted = made.minimized(list(losses))
        if made.trains and not wanted and stage.sound and self.sections.complete:
            hint = "write a section `losses`" if not self.sections.entries["losses"] else "keep one of them"
            self.problems.append(stage.entry.problem(f"the stage {stage.name} has no loss to minimize", hint=hint))
        return [name for name in wanted if name in losses]

    def check_faults(self, stage: StageEntry, made: Stage, losses: Mapping[str, Entry]) -> None:
        """Mistakes between the fields of a stage, as its declaration knows them."""
        for fault in made.faults(list(losses)):
            hint = did_you_mean(fault.name, fault.among, otherwise=fault.hint, most=20) if fault.among else fault.hint
            self.problems.append(stage.entry.problem(fault.message, fault.place, hint=hint))

    def check_groups(self, stage: StageEntry, made: Stage, entries: Mapping[str, Mapping[str, Entry]]) -> None:
        """A group must be able to match something that has weights; what is taken over must be there."""
        sections = ("encoders", "losses", "parts")
        owners = [str(entry.owner) for section in sections for entry in entries[section].values()]
        for name, pattern in made.patterns().items():
            fixed = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
            fits = any(
                fnmatchcase(owner, pattern) or owner.startswith(fixed) or fixed.startswith(f"{owner}.")
                for owner in owners
            )
            if not fits:
                hint = did_you_mean(pattern, owners, otherwise="paths begin with encoders., losses. or parts.")
                message = f"the group {name} matches nothing"
                self.problems.append(stage.entry.problem(message, ("groups", name, "match"), hint=hint))
        begun = self.resolvers[stage.name].begins()
        for place, pattern in enumerate(made.taken() or () if begun is not None else ()):
            assert begun is not None
            trained = [str(owner) for owner in begun[1].trained() if owner.section not in ("fields", "views")]
            if not any(fnmatchcase(owner, pattern) for owner in trained):
                hint = did_you_mean(pattern, trained, most=20)
                message = f"the model of {begun[0]} has nothing at `{pattern}`"
                self.problems.append(stage.entry.problem(message, ("start", "only", place), hint=hint))

    def check_stage_order(self) -> None:
        """Stages that wait for each other are reported once."""
        open_ends = self.names.open_ends()
        needs: dict[str, set[str]] = {name: set() for name in self.sections.stages}
        for name, roots in self.roots.items():
            found = {
                open_ends.get(target.stage or target.name, target.stage or target.name)
                for owner in (STAGE, *self.resolvers[name].reach(*roots))
                for target in self.resolvers[name].targets(owner).values()
                if target.stage or target.section == "stages"
            }
            around = self.names.around(name)
            # Stages inside another run on its model as it is then, and it reads what they have given.
            own = {around} if name in self.names.inner else set[str]()
            needs[around] |= {stage for stage in found if bare(stage) not in self.names.inner} - {INIT, *own}
        if circle := circle_of(needs):
            entry = self.sections.stages[min(circle)].entry
            hint = "let one of them begin with `init`"
            self.problems.append(entry.problem(f"a circle of stages: {' -> '.join(circle)}", key=True, hint=hint))


def _fields_read_by(
    data: DataFields, stage: StageEntry, resolvers: Mapping[str, Resolver], name: str
) -> Mapping[str, TensorType] | None:
    return data.read_by(stage, resolvers[name])


def _numbered_apart(one: Sequence[str], two: Sequence[str]) -> str | None:
    """How the numbers of two entries stand for different classes, a template of text; None where they do not."""
    numbers = {name: number for number, name in enumerate(one)}
    for number, name in enumerate(two):
        shown = repr(name).replace("{", "{{").replace("}", "}}")
        if (there := numbers.get(name, number)) != number:
            return f"class {shown} of {{field}} is number {there} in {{one}} and {number} in {{two}}"
    for number, (name, other) in enumerate(zip(one, two, strict=False)):
        if name != other:
            shown, new = (repr(text).replace("{", "{{").replace("}", "}}") for text in (name, other))
            return f"number {number} of {{field}} is the class {shown} in {{one}} and {new} in {{two}}"
    return None


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
