"""The fields of the data that stages read: those of sources, of data that stages make, and values that join them."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import DataStage, Source, Stage
from mmflow.plugin.modality import check_modalities
from mmflow.plugin.references import Column, Data, Static, reference_fields, words
from mmflow.plugin.streams import axis_of, on_axis
from mmflow.plugin.targets import INIT, Place, Target
from mmflow.plugin.values import SAMPLE, TensorType
from mmflow.spec.components.data_paths import made_of_sources
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.sections import Sections
from mmflow.spec.components.stages import StageEntry
from mmflow.spec.references.names import SAMPLER, SECTIONS, SINGULAR
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.references.wanted import Wanted
from mmflow.spec.text.problems import Problem


class DataFields:
    """The declared fields of all data of a spec. What is wrong with a source or a name goes to `problems`."""

    def __init__(self, sections: Sections, problems: list[Problem]) -> None:
        self.sections, self.problems = sections, problems
        self.fields: dict[str, Mapping[str, TensorType] | None] = {}
        """By entry of data; None after a problem."""
        self._unreadable: set[tuple[str, str | None]] = set()

    def read_sources(self) -> None:
        """Ask every source for its fields, those that are made of others last."""
        entries = self.sections.entries["data"]
        self.fields = dict.fromkeys(entries)
        for name in sorted(entries, key=lambda name: made_of_sources(entries[name].component)):
            self.fields[name] = self._of_source(entries[name])

    def _of_source(self, entry: Entry) -> Mapping[str, TensorType] | None:
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
            if said not in self._unreadable or not made_of_sources(source):
                self.problems.append(problem)
            self._unreadable.add(said)
            return None
        except Exception as error:  # a source of a plugin may raise anything
            self.problems.append(entry.problem(f"source {source.use} cannot be read: {type(error).__name__}: {error}"))
            return None
        fields.setdefault("id", TensorType("id", dtype="str"))
        return fields

    def read_by(self, stage: StageEntry, resolver: Resolver) -> Mapping[str, TensorType] | None:
        """The fields of a stage's data, with those that join it; None where they are not known."""
        made = stage.declaration
        if made is None:
            return None
        if isinstance(made, DataStage) and made.streams():
            return self._of_streams(made, resolver)
        read, found = data_of(made), dict[str, TensorType]()
        if read is not None:
            own = self._at(resolver, resolver.resolve(Wanted(("data",), words(read), (Data,))))
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

    def _of_streams(self, made: DataStage, resolver: Resolver) -> Mapping[str, TensorType] | None:
        """The fields of a stage's streams under their names, with those that join each and those that samplers add."""
        found: dict[str, TensorType] = {}
        for name, stream in made.streams().items():
            data = resolver.resolve(Wanted(("data", name, "data"), words(stream.data), (Data,)))
            own = self._at(resolver, data)
            if own is None:
                return None
            fields = dict(own)
            for field, reference in stream.fields.items():
                target = resolver.resolve(Wanted(("data", name, "fields", field), reference.path, (Column, Static)))
                declared = resolver.type_of(target) if target is not None else None
                fields.setdefault(field, declared or TensorType("unknown"))
            axis = axis_of(name) if made.trains else SAMPLE
            drawn = made.drawn().get(name)
            added = drawn.sampler.adds if drawn is not None else {}
            fields |= {f"{SAMPLER}.{field}": type_ for field, type_ in added.items()}
            found |= {f"{name}.{field}": on_axis(type_, axis) for field, type_ in fields.items()}
        return found

    def check_streams(self, stage: StageEntry, targets: Mapping[Place, Target], taken: Mapping[str, str]) -> None:
        """Whether a stage can read its data, each of its streams; these may not have the names of entries, `taken` with
        their sections: `image.tokens` would be a field of `image`."""
        made = stage.declaration
        streams = made.streams() if isinstance(made, DataStage) else {}
        for name in streams:
            section = "fields" if name in (*SECTIONS, INIT) else taken.get(name)
            if section is not None:
                said = "a word of the language" if section == "fields" else f"also {SINGULAR[section]}"
                message = f"the stream `{name}` is {said}"
                hint = "choose another name"
                self.problems.append(stage.entry.problem(message, ("data", name), key=True, hint=hint))
        if made is None or any(problem.path == stage.entry.path for problem in self.problems):
            return
        places = {name: ("data", name, "data") for name in streams} or {"": ("data",)}
        for name, place in places.items():
            source = self.source_of(targets.get(place))
            faults = made.refuses_stream(source, name) if source is not None else ()
            self.problems += [stage.entry.problem(fault.message, fault.place, hint=fault.hint) for fault in faults]

    def source_of(self, data: Target | None) -> Source | None:
        """The source behind a stage's `data`; None where it is not known, or cannot be read."""
        entry = self.sections.entries["data"].get(data.name) if data is not None and data.section == "data" else None
        made = entry.component if entry is not None else None
        known = data is not None and self.fields.get(data.name) is not None
        return made if isinstance(made, Source) and known else None

    def _at(self, resolver: Resolver, data: Target | None) -> Mapping[str, TensorType] | None:
        """The fields of an entry of data, or of data that a stage makes."""
        if data is None or data.section == "data":
            return self.fields.get(data.name) if data is not None else None
        there = resolver.other(data.name)
        made = there.given().get(data.output or "") if there is not None else None
        return {**made, "id": TensorType("id", dtype="str")} if isinstance(made, Mapping) else None


def data_of(made: Stage) -> str | None:
    """The entry of data that a stage names: the first of them has the rows."""
    for name, types in reference_fields(type(made)).items():
        value = getattr(made, name)
        if Data in types and value is not None and not isinstance(value, Mapping):
            return str(value[0] if isinstance(value, tuple) and value else value)
    return None
