"""Keys: one hash of all that a result depends on, and of nothing else.

A key covers the components that a stage reaches (names, code, fields in identity), the names of nodes (they name
parameters and draws), the seed where something is drawn, the content of the data, the core's own code, and the keys
of the stages that it reads. Names of the spec, of stages and of data entries, order, comments and fields outside
identity (workers, logging, devices) are not in it. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from mmflow.identity.canonical import exact, key_of
from mmflow.identity.closure import code_of, component_code
from mmflow.identity.files import content_of
from mmflow.identity.weights import Weights
from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Encoder, Service, Source, Stage, View
from mmflow.plugin.marks import in_identity, known_by_content, known_by_order
from mmflow.plugin.modality import modality
from mmflow.plugin.references import Written, words
from mmflow.plugin.targets import INIT, STAGE, Owner, Place, Target
from mmflow.plugin.values import Json
from mmflow.spec.components.refresh import bare
from mmflow.spec.references.borrowed import SEPARATOR, lender

if TYPE_CHECKING:
    from mmflow.spec import Scope, Spec

FORMAT = 3
"""Raised when a key's make-up or the layout of stored results changes, so that old results are not taken for new."""

Said: TypeAlias = dict[str, Any]
"""A part of a key's content, as plain data."""

_EMBEDDING = "mmflow.evaluate.rows"
_EVALUATING = "mmflow.evaluate.harness"
_JOINING = "mmflow.flow.sources"
_HANDING = "mmflow.flow.values"
_CURRENT = "current"
"""Stands for the model of the stage around, as it is when a stage inside it runs."""


class Undecided(Exception):
    """A key that depends on where the repetition `repeat` ends, which is not known yet."""

    def __init__(self, repeat: str) -> None:
        super().__init__(f"where {repeat} ends is not known yet")
        self.repeat = repeat


class Keys:
    """The keys of one spec's stages and encodings; each is computed once.

    Those of stages that read the last iteration of a repetition with `until` are known once it has ended: before, they
    raise `Undecided`.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._stages: dict[str, str] = {}
        self._data: Said = {}
        self._ends: dict[str, int] = {}
        self._weights = Weights(spec, self._named)
        self._around = ""
        """The stage whose stages inside are being described."""

    def ended(self, repeat: str, index: int) -> None:
        """Take note that the iteration `index` was the last of a repetition."""
        self._ends[repeat] = index

    def stage(self, name: str) -> str:
        """The key under which the results of stage `name` are stored."""
        name = self._named(name)
        if name not in self._stages:
            self._stages[name] = key_of(self.describe_stage(name))
        return self._stages[name]

    def _named(self, stage: str) -> str:
        """The stage behind `round.last.fit`; any other as it is."""
        if stage == INIT or stage in self._spec.stages or bare(stage) in self._spec.inner:
            return stage
        repeat, *_, inside = words(stage)
        if repeat not in self._ends:
            raise Undecided(repeat)
        return self._spec.repeats[repeat].stage(self._ends[repeat], inside)

    def describe_stage(self, name: str) -> Said:
        """The content that the key of stage `name` is the hash of."""
        scope = self._spec.scope(name)
        declaration = scope.declaration
        owners = scope.reached()
        stage = self._described(declaration, (), scope.targets(STAGE), scope)
        for place in ("data", "model", "losses"):
            # Said by content below: entries of data and stages have names that mean nothing, losses are nodes. The
            # names of streams are those of fields and draws.
            if place != "data" or not isinstance(scope.data, Mapping):
                stage["fields"].pop(place, None)
        if not isinstance(stage["fields"].get("start"), Mapping) or "fields" not in stage["fields"]["start"]:
            stage["fields"].pop("start", None)
        description: Said = {
            "format": FORMAT,
            "core": _core(declaration),
            "stage": stage,
            "nodes": self._nodes(scope, owners),
            "modalities": _modalities(scope, owners),
            "data": self.data(scope.data),
            "preparation": self._preparation(scope, owners),
            "origin": self._origin(scope),
        } | self._joining(scope, owners)
        if (seed := self.seed(name)) is not None:
            description["seed"] = seed
        if scope.groups:
            description["inside"] = self._inside(name, scope)
        return description | _cut(declaration, scope, owners)

    def _inside(self, name: str, scope: Scope) -> Said:
        """The groups of stages inside a stage: each stage as by itself, on the current model and by its name there."""
        self._around = name
        said: Said = {}
        for group in scope.groups.values():
            said[group.name] = {
                form: [[stage, self.describe_stage(full)] for stage, full in stages.items()]
                for form, stages in (("first", group.stages), ("later", group.later))
            }
            said[group.name] |= {
                "numbers": {
                    self._model(full): [[list(place), number] for place, number in numbers.items()]
                    for full, numbers in group.numbers.items()
                },
                "given": {name: self._target(target, None) for name, target in group.given.items()},
            }
        self._around = ""
        return said

    def seed(self, name: str) -> int | None:
        """The seed that the key of stage `name` covers; None where nothing is drawn, whatever the seed is."""
        scope = self._spec.scope(self._named(name))
        declaration, owners = scope.declaration, scope.reached()
        views = (made for owner in owners if isinstance(made := scope.component(owner), View))
        drawn = any(view.draws == "always" for view in views)
        if drawn or declaration.trains or declaration.depends_on_seed() or self._weights.drawn(scope, owners):
            return scope.seed
        return None

    def encoding(self, stage: str, target: Target, data: Target | None) -> Said:
        """The content of the key of one encoder's encodings over the rows of one data entry.

        Only the closure of the encoder counts: encoders beside it, and training that cannot have changed its
        weights, do not.
        """
        here = self._spec.scope(stage)
        scope = here if target.stage is None else self._scope_of(target.stage, here)
        owners = scope.reach(target.owner)
        said = {
            "format": FORMAT,
            "what": "encoding",
            "core": str(code_of(_EMBEDDING)),
            "node": str(target.owner),
            "nodes": self._nodes(scope, owners),
            "modalities": _modalities(scope, owners),
            "data": self.data(data or here.data),
            "preparation": self._preparation(scope, owners),
            "origin": self._model(target.stage) if target.stage else self._changed_by(scope, owners),
        }
        at = self._named(target.stage) if target.stage not in (None, INIT) else None
        said |= {"seed": here.seed} if self._weights.drawn(scope, owners, at) else {}
        return said | self._joining(here, owners) | _cut(here.declaration, scope, owners)

    def _scope_of(self, stage: str, here: Scope) -> Scope:
        """The view of the stage whose model an encoder belongs to."""
        return here.untrained if stage == INIT else self._spec.scope(self._named(stage))

    def data(self, data: Target | Mapping[str, Target] | None) -> Json:
        """The content of data: of an entry the source's code, fields and fingerprint, without the entry's name; of
        data that a stage makes the stage."""
        if data is None:
            return None
        if isinstance(data, Mapping):
            return {stream: self.data(target) for stream, target in data.items()}
        if data.section == "stages":
            return {"made": data.output, "by": self._model(data.name)}
        if data.name not in self._data:
            self._data[data.name] = self._described(self._spec.data[data.name], (), {}, None)
        return self._data[data.name]

    def service(self, service: Service) -> Said:
        """The identity of a service under which its answers are recorded.

        Neither its code nor fields left at their defaults are in it, so that paid answers outlive an upgrade; a change
        in what an answer means is the service's `revision`.
        """
        fields = self._fields(service, (), {}, None)
        changed = {n: v for n, v in fields.items() if getattr(service, n) != type(service).model_fields[n].default}
        files = service.fingerprint()
        said: Said = {"use": service.use, "revision": service.revision, "fields": changed}
        return said if files is None else {**said, "files": exact(files)}

    def upstream(self, name: str) -> tuple[str, ...]:
        """Stages whose outputs stage `name` reads, in file order, then those of iterations that are not known yet."""
        groups = self._spec.scope(name).groups.values()
        inside = {full: None for group in groups for full in (*group.stages.values(), *group.later.values())}
        found: set[str | None] = set()
        for scope in map(self._spec.scope, (name, *inside)):
            targets = [target for owner in (STAGE, *scope.reached()) for target in scope.targets(owner).values()]
            found |= {t.stage for t in targets if t.stage} | {t.name for t in targets if t.section == "stages"}
            found |= {scope.start, scope.model}
            found |= {target.name for target in _each(scope.preparation_data) if target.section == "stages"}
        known = {*self._spec.stages, *self._spec.inner}
        open_ends = [stage for stage in self._spec.scopes if stage not in known]
        return tuple(stage for stage in (*self._spec.stages, *open_ends) if stage in found - {name})

    def _joining(self, scope: Scope, owners: Iterable[Owner]) -> Said:
        """The values of stages that join the data as fields which `owners` read, and the code that joins them."""
        fields = {o.name: scope.joined[o.name] for o in owners if o.section == "fields" and o.name in scope.joined}
        read = [target for owner in owners for target in scope.targets(owner).values()]
        if not fields and not any(target.section == "stages" for target in (*read, *_each(scope.data))):
            return {}
        joined = {name: self._target(target, scope) for name, target in fields.items()}
        return {"joined": joined, "joining": str(code_of(_JOINING))}

    def _nodes(self, scope: Scope, owners: Iterable[Owner]) -> Said:
        entries = {owner: entry for owner in owners if (entry := scope.component(owner)) is not None}
        return {
            self._node_name(owner): self._described(entry, (), scope.targets(owner), scope)
            for owner, entry in entries.items()
        }

    def _node_name(self, owner: Owner) -> str:
        """A node by its name; one of another stage's model by what it is there."""
        lent = lender(owner)
        if lent is None:
            return str(owner)
        return f"{owner.section}.{self._model(lent[0])}{SEPARATOR}{lent[1]}"

    def _described(self, value: Written, place: Place, targets: Mapping[Place, Target], scope: Scope | None) -> Any:
        if place in targets:
            return self._target(targets[place], scope)
        if isinstance(value, BaseModel):
            said: Said = {"fields": self._fields(value, place, targets, scope)}
            if isinstance(value, Component):
                said |= {"use": value.use, "code": component_code(value)}
                # A source's fingerprint covers the sources inside it.
                files = None if isinstance(value, Source) and place else value.fingerprint()
                said |= {} if files is None else {"files": exact(files)}
            return said
        if isinstance(value, Mapping):
            return {str(k): self._described(v, (*place, k), targets, scope) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._described(v, (*place, i), targets, scope) for i, v in enumerate(value)]
        return exact(value)

    def _fields(self, declared: BaseModel, above: Place, targets: Mapping[Place, Target], scope: Scope | None) -> Said:
        said: Said = {}
        for name, info in type(declared).model_fields.items():
            if not in_identity(type(declared), name):
                continue
            value = getattr(declared, name)
            # Places of references are told in the names that a spec uses.
            place = (*above, info.alias or name)
            if isinstance(value, str) and known_by_content(type(declared), name):
                said[name] = {"content": content_of(value, says=".".join(map(str, place)))}
            elif isinstance(value, Mapping) and known_by_order(type(declared), name):
                said[name] = [[key, self._described(one, (*place, key), targets, scope)] for key, one in value.items()]
            else:
                said[name] = self._described(value, place, targets, scope)
        return said

    def _target(self, target: Target, scope: Scope | None) -> Said:
        if target.section == "data":
            return {"data": self.data(target)}
        if target.section == "stages":
            return {"output": target.output, "of": self._model(target.name)}
        said: Said = {"node": self._node_name(target.owner)}
        for part in ("index", "output", "detach", "after", "field"):
            if getattr(target, part) not in (None, False, ()):
                said[part] = getattr(target, part)
        if target.stage:
            said["of"] = self._model(target.stage)
        if target.stage == INIT and scope is not None:
            # Nothing is stored of the untrained model: its declarations say what it is.
            said["nodes"] = self._nodes(scope.untrained, scope.untrained.reach(target.owner))
        return said

    def _model(self, stage: str) -> str:
        """A stage by its key; the untrained model by its name, and so a stage inside another."""
        if bare(stage) in self._spec.inner:
            around = self._spec.scope(bare(stage)).around
            return stage.removeprefix(f"{around}.")
        if stage == self._around:
            return _CURRENT
        return stage if stage == INIT else self.stage(stage)

    def _changed_by(self, scope: Scope, owners: Iterable[Owner]) -> str | None:
        """The key of the newest stage on the chain of models that can have changed the weights of `owners`."""
        stage = self._weights.changed_by(scope, owners)
        return self.stage(stage) if stage is not None else None

    def _preparation(self, scope: Scope, owners: Iterable[Owner]) -> Json:
        """The data that encoders learn their preprocessing from, where one of them does."""
        entries = map(scope.component, owners)
        learns = any(isinstance(entry, Encoder) and entry.learns() for entry in entries)
        return self.data(scope.preparation_data) if learns else None

    def _origin(self, scope: Scope) -> str | None:
        """The key of the stage whose model this one begins with or uses."""
        stage = scope.start or scope.model
        return self._model(stage) if stage else None


def _each(data: Target | Mapping[str, Target] | None) -> tuple[Target, ...]:
    """The targets of a stage's data."""
    if data is None:
        return ()
    return tuple(data.values()) if isinstance(data, Mapping) else (data,)


def _modalities(scope: Scope, owners: Iterable[Owner]) -> dict[str, str]:
    """The code of the modalities that a stage's values have: how rows are joined is found by name, not imported."""
    fields = [owner.name for owner in owners if owner.section == "fields"]
    types = [scope.fields[name] for name in fields if name in scope.fields]
    for owner in owners:
        if owner.section in ("views", "encoders"):
            types += scope.outputs(owner).values()
    return {name: component_code(modality(name)) for name in sorted({declared.modality for declared in types})}


def _core(declaration: Stage) -> str | None:
    """The core's code that runs a stage of a plugin; a stage of the core reaches it by itself."""
    if declaration.measures:
        return str(code_of(_EVALUATING))
    return None if type(declaration).__module__.startswith("mmflow.") else str(code_of(_HANDING))


def _cut(declaration: Stage, scope: Scope, owners: Iterable[Owner]) -> Said:
    """How a stage cuts the data into batches, where that can change the outputs of an encoder."""
    for owner in owners:
        if isinstance(scope.component(owner), Encoder):
            entry = scope.structure(owner).encoder
            parts = (entry, entry.head, entry.tokens)
            if any(isinstance(part, Encoder) and part.scope() == "batch" for part in parts):
                return {"batch_size": getattr(declaration, "batch_size", None)}
    return {}
