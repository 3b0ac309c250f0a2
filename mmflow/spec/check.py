"""`check_document`: every stage of a spec resolved, and every fault of it told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial

from mmflow.plugin.component import ComponentError, nested_components
from mmflow.plugin.kinds import DataStage, Source, Stage
from mmflow.plugin.modality import check_modalities
from mmflow.plugin.references import Column, Data, Static, reference_fields, words
from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.assemble import assembled
from mmflow.spec.components.data_paths import filled_in, made_of_sources
from mmflow.spec.components.default_models import name_models
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.renamed import with_columns_of_today
from mmflow.spec.components.sections import Sections, read_sections
from mmflow.spec.components.stages import StageEntry, merged_entries
from mmflow.spec.references.chains import chain_problems, circle_of
from mmflow.spec.references.inputs import check_entry
from mmflow.spec.references.names import INIT, NODES, Seen, StageNames
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.references.wanted import Wanted
from mmflow.spec.spec import Spec
from mmflow.spec.text.document import Document
from mmflow.spec.text.problems import Problem, Problems, SpecError, did_you_mean

MOST_WORK = 10_000
"""Entries at most that the stages of a spec reach, each as often as a stage needs it."""


def check_document(document: Document) -> Spec:
    """The spec of a document whose `extends` and variables are filled in; raises `SpecError`."""
    problems: list[Problem] = Problems()
    sections = read_sections(document, problems)
    checker = _Checker(sections, problems)
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

    def __init__(self, sections: Sections, problems: list[Problem]) -> None:
        self.sections, self.problems = sections, problems
        self.fields: dict[str, Mapping[str, TensorType] | None] = {}
        self.resolvers: dict[str, Resolver] = {}
        self.others: dict[str, Resolver] = {}
        """The resolvers, also under the names of stages of a last iteration that is not known yet."""
        self.merged: dict[str, dict[str, dict[str, Entry]]] = {}
        self.checked: set[tuple[str | int, ...]] = set()
        self.unreadable: set[tuple[str, str | None]] = set()
        self.roots: dict[str, list[Owner]] = {}
        self.names = StageNames()
        self.work = 0
        """Entries that stages reached so far."""

    def run(self) -> None:
        self.sections.entries["data"] = filled_in(self.sections.entries["data"], self.problems)
        entries = self.sections.entries["data"]
        self.fields = dict.fromkeys(entries)
        for name in sorted(entries, key=lambda name: made_of_sources(entries[name].component)):
            self.fields[name] = self.fields_of(entries[name])
        base = {section: self.sections.entries[section] for section in NODES}
        for name, stage in self.sections.stages.items():
            self.merged[name] = merged_entries(base, stage, self.problems)
        self.names = StageNames(
            {stage.name: stage.gives for stage in self.sections.stages.values()}
            | dict.fromkeys(self.sections.refreshed),
            {name: frozenset(merged["encoders"]) for name, merged in self.merged.items()}
            | {INIT: frozenset(base["encoders"])},
            {name: repeat.repetition for name, repeat in self.sections.repeats.items()},
            {name: stage.iteration for name, stage in self.sections.stages.items() if stage.iteration is not None},
        )
        for open_end, furthest in self.names.open_ends().items():
            self.names.gives[open_end] = self.names.gives.get(furthest)
            self.names.encoders[open_end] = self.names.encoders.get(furthest, frozenset())
        if found := chain_problems(base, self.merged, self.names):
            self.problems += found
            return
        name_models(self.sections.stages, self.names.repeats)
        for name, stage in self.sections.stages.items():
            self.prepare(name, stage)
        self.others |= self.resolvers
        self.others |= {name: self.resolvers[stands] for name, stands in self.names.open_ends().items()}
        for name, stage in self.sections.stages.items():
            self.check_stage(name, stage)
            if self.work > MOST_WORK:
                hint = "split the spec, and let its parts share with `extends`"
                message = f"the stages down to {name} need more than {MOST_WORK:,} entries in all"
                self.problems.append(stage.entry.problem(message, key=True, hint=hint))
                return
        self.check_unreached(base)
        self.check_stage_order()

    def fields_of(self, entry: Entry) -> Mapping[str, TensorType] | None:
        """The fields of a source, or None after a problem."""
        source = entry.component
        if not isinstance(source, Source):
            return None
        try:
            fields = dict(source.fields())
            check_modalities(fields)
            # Mistakes in choosing, joining and cutting show only here: an empty choice, a key that is nowhere.
            source.open()
        except ComponentError as error:
            found, expected, hint = error.found or None, error.expected or None, error.hint or None
            problem = entry.problem(str(error), found=found, expected=expected, hint=hint)
            said = (problem.message, found)
            # A source that is made of others fails as they do, and they have told it.
            if said not in self.unreadable or not made_of_sources(source):
                self.problems.append(problem)
            self.unreadable.add(said)
            return None
        except Exception as error:  # a source of a plugin may raise anything
            self.problems.append(entry.problem(f"source {source.use} cannot be read: {type(error).__name__}: {error}"))
            return None
        fields.setdefault("id", TensorType("id", dtype="str"))
        return fields

    def prepare(self, name: str, stage: StageEntry) -> None:
        """The resolver of a stage, with the fields of its data."""
        self.rename_columns(name, stage)
        base = {section: self.sections.entries[section] for section in NODES}
        seen = Seen(self.merged[name], tuple(self.sections.entries["data"]), self.names, stage.entry, base)
        resolver = self.resolvers[name] = Resolver(seen, partial(self.fields_read_by, name, stage))
        resolver.others = self.others

    def fields_read_by(self, name: str, stage: StageEntry) -> Mapping[str, TensorType] | None:
        """The fields of a stage's data, with those that join it; None where they are not known."""
        made, resolver = stage.declaration, self.resolvers[name]
        if made is None or "data" in stage.refused:
            return None
        read, found = _data_of(made), dict[str, TensorType]()
        if read is not None:
            own = self.fields_at(resolver, resolver.resolve(Wanted(("data",), words(read), (Data,))))
            if own is None:
                return None
            found |= own
        for field, reference in made.fields.items() if isinstance(made, DataStage) else ():
            target = resolver.resolve(Wanted(("fields", field), reference.path, (Column, Static)))
            declared = resolver.type_of(target) if target is not None else None
            if field in found:
                hint = "give it another name"
                message = f"the data has a field `{field}` of its own"
                self.problems.append(stage.entry.problem(message, ("fields", field), key=True, hint=hint))
            found.setdefault(field, declared or TensorType("unknown"))
        return found

    def fields_at(self, resolver: Resolver, data: Target | None) -> Mapping[str, TensorType] | None:
        """The fields of an entry of data, or of data that a stage makes."""
        if data is None or data.section == "data":
            return self.fields.get(data.name) if data is not None else None
        there = resolver.other(data.name)
        made = there.given().get(data.output or "") if there is not None else None
        return {**made, "id": TensorType("id", dtype="str")} if isinstance(made, Mapping) else None

    def rename_columns(self, name: str, stage: StageEntry) -> None:
        """Read old names of columns as today's, where the source of a stage's data says what they are called now."""
        made = stage.declaration
        entry = self.sections.entries["data"].get(_data_of(made) or "") if made is not None else None
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
        data = resolver.targets(STAGE).get(("data",))
        entries = self.merged[name]
        losses = self.selected(stage, made, entries["losses"])
        self.check_faults(stage, made, entries["losses"])
        self.roots[name] = [STAGE, *(Owner("losses", loss) for loss in losses)]
        self.check_groups(stage, made, entries)
        source = self.source_of(data)
        if source is not None and not any(problem.path == stage.entry.path for problem in self.problems):
            for place, message, hint in made.refuses(source):
                self.problems.append(stage.entry.problem(message, (place,), hint=hint))
        self.check_classes(stage, resolver)
        self.check_reached(resolver, self.roots[name])

    def check_classes(self, stage: StageEntry, resolver: Resolver) -> None:
        """A stage that reads several entries of data compares their labels by number: a class must have one."""
        targets = resolver.targets(STAGE)
        read = {target.name: place for place, target in targets.items() if target.section == "data"}
        first, *others = [name for name in read if self.fields.get(name)] or [""]
        for field in {target.name for target in targets.values() if target.section == "fields"} if others else ():
            for other in others:
                one, two = ((self.fields[name] or {}).get(field) for name in (first, other))
                if one is None or two is None:
                    continue
                numbers = {name: number for number, name in enumerate(one.names)}
                moved = next((n for n, name in enumerate(two.names) if numbers.get(name, n) != n), None)
                if moved is not None:
                    name = two.names[moved]
                    self.problems.append(
                        stage.entry.problem(
                            f"class {name!r} of {field} is number {numbers[name]} in {first} and {moved} in {other}",
                            read[other],
                            found=f"{first}: {_listed(one.names)}; {other}: {_listed(two.names)}",
                            hint="name the classes of both in one order (`names` of a column, `classes` of a folder)",
                        )
                    )

    def source_of(self, data: Target | None) -> Source | None:
        """The source behind a stage's `data`; None where it is not known, or cannot be read."""
        entry = self.sections.entries["data"].get(data.name) if data is not None and data.section == "data" else None
        made = entry.component if entry is not None else None
        known = data is not None and self.fields.get(data.name) is not None
        return made if isinstance(made, Source) and known else None

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
        known = list(self.fields.values())
        union: dict[str, TensorType] | None = {}
        for fields in known:
            union = None if fields is None or union is None else {**union, **fields}
        if any(stage.declaration is None or stage.refused for stage in self.sections.stages.values()) or not known:
            union = None
        resolver = Resolver(Seen(base, tuple(self.sections.entries["data"]), self.names, None), union)
        owners = [e.owner for entries in base.values() for e in entries.values() if e.path not in self.checked]
        self.check_reached(resolver, owners)

    def selected(self, stage: StageEntry, made: Stage, losses: Mapping[str, Entry]) -> list[str]:
        """Names of the losses that a stage minimizes."""
        wanted = made.minimized(list(losses))
        if made.trains and not wanted and not stage.refused and self.sections.complete:
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
        needs = {
            name: {
                open_ends.get(target.stage or target.name, target.stage or target.name)
                for owner in (STAGE, *self.resolvers[name].reach(*roots))
                for target in self.resolvers[name].targets(owner).values()
                if target.stage or target.section == "stages"
            }
            - {INIT}
            for name, roots in self.roots.items()
        }
        if circle := circle_of(needs):
            entry = self.sections.stages[min(circle)].entry
            hint = "let one of them begin with `init`"
            self.problems.append(entry.problem(f"a circle of stages: {' -> '.join(circle)}", key=True, hint=hint))


def _data_of(made: Stage) -> str | None:
    """The entry of data that a stage names: the first of them has the rows."""
    for name, types in reference_fields(type(made)).items():
        value = getattr(made, name)
        if Data in types and value is not None:
            return str(value[0] if isinstance(value, tuple) and value else value)
    return None


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
