"""A random spec, put together from the declarations: data, views, encoders, memories, losses, stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mmflow.plugin import Component, ComponentError, Encoder, Loss, TensorType
from mmflow.plugin.binding import binding
from mmflow.plugin.kinds import Application, Evaluator, Memory, Source, Stage, Transform, View
from mmflow.plugin.modality import is_raw
from mmflow.plugin.references import (
    Data,
    Encoded,
    Grid,
    Labels,
    Model,
    Pooled,
    RawField,
    RefType,
    TokenSequence,
    reference_fields,
)
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.spec.text.yaml_writer import write_yaml
from tests.random_specs.files import Files
from tests.random_specs.known import known, together
from tests.random_specs.registered import component, names
from tests.random_specs.values import Limits, Unwritable, Values, limits
from tests.random_specs.world import Choice, World

LEFT_OPEN = {
    "encoder": ("init", "lora", "tokens"),
    "loss": (),
    "stage": (
        "model",
        "start",
        "compile",
        "workers",
        "checkpoint_every",
        "log_every",
        "groups",
        "losses",
        "seed",
        "sampler",
    ),
    "source": ("quarantine", "cache", "revision", "config", "stream", "columns"),
}
"""Fields that stay at their defaults: files, places and settings of the machine, and what is drawn by hand below."""
OPTIONAL = {("loss", "rows"): 10, ("memory", "rows"): 10, ("encoder", "mask"): 10}
"""One in so many times an optional reference is written, where most of what fits by its type does not in fact."""
RARE = ("freeze",)
SELDOM = 4
"""One in so many times a field that has a default is written."""


T = TypeVar("T")


class Unfit(Exception):
    """A component for which the spec so far has no inputs."""


@dataclass
class RandomSpec:
    """The text of a spec, and the components in it as `kind/name`."""

    text: str
    uses: set[str]


def specs(files: Files) -> st.SearchStrategy[RandomSpec]:
    """Random specs. Each is known by its number: hypothesis draws numbers, and mixes no parts of one spec into another,
    which would give many that are nearly equal."""
    return st.integers(0, 2**40).map(lambda number: compose(number, files))


def compose(number: int, files: Files) -> RandomSpec:
    """The spec of that number."""
    return Composer(Random(number), files).spec()


@dataclass
class Composer:
    random: Random
    files: Files
    member: str | None = None
    """The source inside others: mostly the same one again, as sources with other fields have few rows in common."""
    uses: set[str] = field(default_factory=set)
    world: World = field(default_factory=lambda: World({}))
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    shared: dict[str, list[str]] = field(default_factory=dict)
    """By kind, dotted paths to components of the spec that others may share."""

    # --- drawing ---------------------------------------------------------------------------------------

    def choose(self, choices: Sequence[Any]) -> Any:
        if not choices:
            raise Unfit("nothing to choose from")
        return self.random.choice(list(choices))

    def now_and_then(self, times: int = SELDOM) -> bool:
        return self.random.randrange(times) == 0

    # --- the whole -------------------------------------------------------------------------------------

    def spec(self) -> RandomSpec:
        self.data()
        self.several("view", self.view, self.choose([0, 1, 1, 2]))
        self.several("tower", lambda name: self.encoder(name, raw=True), self.choose([1, 2, 2]))
        self.several("node", self.encoder, self.choose([0, 1, 2, 3]))
        if self.now_and_then(3):
            self.several("bank", self.memory, 1)
        if self.now_and_then(3):
            self.several("part", self.part, 1)
        self.several("loss", self.loss, self.choose([1, 1, 2]))
        spec: dict[str, Any] = {"mmflow": 1, "name": "random", "seed": self.choose([0, 1])}
        order = ("data", "views", "encoders", "memories", "parts", "losses")
        stages: dict[str, Any] = {}
        if self.written.get("losses"):
            stages["train"] = self.attempt(lambda: self.stage("train")) or {}
            stages["train"].setdefault("sampler", self.attempt(lambda: self.inner("sampler", "sampler")) or "shuffle")
        for number in range(self.choose([1, 2, 2, 3])):
            self.attempt(lambda number=number: stages.update({f"eval{number}": self.evaluation()}))
        spec |= {section: self.written[section] for section in order if self.written.get(section)}
        return RandomSpec(write_yaml({**spec, "stages": stages}), self.uses)

    def several(self, label: str, make: Callable[[str], None], many: int) -> None:
        for number in range(many):
            self.attempt(lambda number=number: make(f"{label}{number}"))

    def attempt(self, make: Callable[[], T]) -> T | None:
        """Make something; a few draws may come to nothing, where the spec has nothing that a component could read."""
        for _ in range(12):
            uses = set(self.uses)
            try:
                return make()
            except Unfit:
                self.uses = uses
        return None

    # --- sections --------------------------------------------------------------------------------------

    def data(self) -> None:
        name = self.choose(names("source"))
        first = self.source(name, 0)
        if name == "digits":
            self.uses.add("source/subset")
            first = {"use": "subset", "of": first, "size": 24}
        second = {**first} if self.now_and_then() else self.other_part(first)
        self.written["data"] = {"one": first, "other": second}
        self.world = World(self.fields_in(first))

    def fields_in(self, source: Mapping[str, Any]) -> Mapping[str, TensorType]:
        """The fields of a source; none where it cannot be read: `check` will say why."""
        try:
            made = component("source", source["use"]).model_validate({k: v for k, v in source.items() if k != "use"})
            assert isinstance(made, Source)
            return made.fields()
        except (ValidationError, ComponentError):
            return {}

    def source(self, name: str, part: int) -> dict[str, Any]:
        made = component("source", name)
        if (there := self.files.of(name, part)) is not None:
            self.uses |= {"source/table", "source/arrays"} if name == "join" else set()
            self.uses.add(f"source/{name}")
            return {"use": name, **there}
        return self.fields_of(made, "data", {})

    def other_part(self, first: Mapping[str, Any]) -> dict[str, Any]:
        """The same source with other samples: another split, or another folder of files."""
        second: dict[str, Any] = {}
        for name, value in first.items():
            if isinstance(value, str):
                value = value.replace("/part0/", "/part1/")
            elif isinstance(value, dict):
                value = self.other_part(value)
            elif isinstance(value, list):
                value = [self.other_part(v) if isinstance(v, dict) else v for v in value]
                value = [v.replace("/part0/", "/part1/") if isinstance(v, str) else v for v in value]
            second[name] = value
        if "split" in second:
            second["split"] = {"train": "test", "test": "train"}.get(second["split"], second["split"])
        return second

    def view(self, name: str) -> None:
        transforms: list[Any] = []
        many = 2 if self.now_and_then(3) else 1
        fields = [c for c in self.world.choices((RawField,)) if c.target.section != "sampler" and not c.groups]
        whole = [c for c in self.world.choices((RawField,)) if c.target.index is None and c.groups]
        of = [self.choose(fields + whole) for _ in range(many)]
        types = [choice.declared for choice in of]
        for _ in range(self.choose([1, 1, 2])):
            fitting = [t for t in names("transform") if self.transformed(t, types) is not None]
            if not fitting:
                continue
            drawn = self.choose(fitting)
            written = self.fields_of(component("transform", drawn), "views", dict(self.world.known))
            found = self.transformed(drawn, types, written)
            if found is None:
                raise Unfit(drawn)
            transforms.append(written)
            types = found
        if not transforms:
            raise Unfit("view")
        entry: dict[str, Any] = {"of": [c.text for c in of] if many > 1 else of[0].text, "apply": transforms}
        if self.now_and_then(3):
            entry["copies"] = 2
        made = self.valid(View, entry)
        self.keep("views", name, entry, made, {("of", i): c.target for i, c in enumerate(of)})

    def transformed(
        self, name: str, types: Sequence[TensorType | None], written: Mapping[str, Any] | None = None
    ) -> list[TensorType] | None:
        """The types after a transform; None where it does not take these. Without `written`, only whether it may."""
        made = component("transform", name)
        try:
            one = made.model_validate({k: v for k, v in (written or {}).items() if k != "use"})
        except ValidationError:
            return None if written is not None else list(filter(None, types))
        assert isinstance(one, Transform)
        try:
            View.model_validate({"of": [f"f{i}" for i in range(len(types))], "apply": [one]}).outputs(
                *[t for t in types if t is not None]
            )
            return [one.result(t) for t in types if t is not None]
        except (ValueError, ComponentError):
            return None

    def encoder(self, name: str, raw: bool = False) -> None:
        uses = [use for use in names("encoder") if not raw or accepts_raw(component("encoder", use))]
        uses = [use for use in uses if limits(component("encoder", use).model_fields["of"].metadata).most]
        use = self.choose(uses)
        made = component("encoder", use)
        aims: dict[Place, Target] = {}
        fields = self.fields_of(made, "encoders", {}, aims=aims)
        if issubclass(made, Application) and self.now_and_then(2):
            self.applied(fields, aims)
        self.keep("encoders", name, fields, self.checked(made, fields), aims)

    def applied(self, fields: dict[str, Any], aims: dict[Place, Target]) -> None:
        """Apply weights to other inputs of the same types, where there are some."""
        inputs = [self.world.type_of(target) for target in self.world.inputs(aims["weights",].owner).values()]
        alike = [
            [c for c in self.world.choices((Pooled, RawField, TokenSequence, Grid)) if same_form(c.declared, one)]
            for one in inputs
        ]
        if alike and all(alike):
            picked = [self.choose(found) for found in alike]
            aims |= {("of", place): choice.target for place, choice in enumerate(picked)}
            fields["of"] = [choice.text for choice in picked]

    def memory(self, name: str) -> None:
        made = component("memory", self.choose(names("memory")))
        aims: dict[Place, Target] = {}
        fields = self.fields_of(made, "memories", {}, aims=aims)
        self.keep("memories", name, fields, self.checked(made, fields), aims)

    def part(self, name: str) -> None:
        kind = self.choose(["score", "value", "encoder"])
        uses = [
            u
            for u in names(kind)
            if kind != "encoder" or limits(component(kind, u).model_fields["of"].metadata).most == 0
        ]
        made = component(kind, self.choose(uses))
        fields = self.fields_of(made, "parts", {})
        if self.checked(made, fields) is None:
            raise Unfit(name)
        self.written.setdefault("parts", {})[name] = {**fields, "use": f"{kind}/{fields['use']}"}
        self.shared.setdefault(kind, []).append(f"parts.{name}")

    def loss(self, name: str) -> None:
        made = component("loss", self.choose(names("loss")))
        aims: dict[Place, Target] = {}
        fields = self.fields_of(made, "losses", {}, aims=aims)
        self.keep("losses", name, fields, self.checked(made, fields), aims)

    def evaluation(self) -> dict[str, Any]:
        uses = [use for use in names("stage") if not component("stage", use).trains]  # type: ignore[attr-defined]
        return self.stage(self.choose(uses))

    def stage(self, use: str) -> dict[str, Any]:
        made = component("stage", use)
        assert issubclass(made, Stage)
        length = self.choose([{"steps": 2}, {"steps": 2}, {"epochs": 1}]) if made.trains else {}
        apart = together("stage", use, self.world.known, self.choose)
        if apart is None and not self.now_and_then(40):
            raise Unfit(use)
        fields = self.fields_of(made, "stage", {"data": "one", **length, **(apart or {})})
        if self.checked(made, fields) is None and not self.now_and_then(40):
            raise Unfit(use)
        return fields

    def keep(self, section: str, name: str, entry: Any, made: Any, aims: Mapping[Place, Target]) -> None:
        """Add an entry. Most of those that their own declaration refuses are drawn again."""
        owner = Owner(section, name)
        if isinstance(made, Loss) and not self.minimizable(made, aims) and not self.now_and_then(40):
            raise Unfit(name)
        if made is not None:
            self.world.add(owner, made, aims)
        known = made is not None and (section not in ("encoders", "views") or self.world.outputs_of(owner) is not None)
        if not known and not self.now_and_then(40):
            self.world.remove(owner)
            raise Unfit(name)
        self.written.setdefault(section, {})[name] = entry

    def minimizable(self, made: Loss, aims: Mapping[Place, Target]) -> bool:
        """Whether a loss takes its inputs, as far as it says so itself."""
        types = {place: self.world.type_of(target) for place, target in aims.items()}
        of = [declared for place, declared in types.items() if place[0] == "of" and declared is not None]
        try:
            made.fits(of, {str(place[0]): one for place, one in types.items() if len(place) == 1 and one is not None})
        except ComponentError:
            return False
        return True

    # --- fields ----------------------------------------------------------------------------------------

    def fields_of(
        self, made: type[Component], section: str, given: Mapping[str, Any], *,
        aims: dict[Place, Target] | None = None, inner: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """What is written for a component: `use`, references, and values of other fields."""
        self.uses.add(f"{made.kind}/{made.use}")
        written: dict[str, Any] = {"use": made.use, **given}
        aims = {} if aims is None else aims
        for name, info in made.model_fields.items():
            if "Score" in str(info.annotation) and (info.is_required() or self.now_and_then(2)):
                written[name] = self.value(made, name, info.annotation, limits(info.metadata), written)
        if not inner:
            self.references_of(made, section, written, aims)
        references = reference_fields(made)
        for name, info in made.model_fields.items():
            alias = info.alias or name
            if inner and name in ("head", "tokens"):
                continue
            if issubclass(made, Application) and name in ("head", "freeze", "lr_scale"):
                continue
            if alias in written or name in references or name in LEFT_OPEN.get(made.kind, ()):
                continue
            if name in ("steps", "epochs") and made.kind == "stage":
                continue
            if not info.is_required() and not self.wanted(made, name):
                continue
            try:
                written[alias] = self.value(made, name, info.annotation, limits(info.metadata), written)
            except Unwritable:
                continue
        about = self.about(written, section)
        written |= known(made.kind, made.use, written, about, self.choose)
        return written

    def about(self, written: Mapping[str, Any], section: str) -> Mapping[str, TensorType]:
        """The fields that a component works on: those of the source inside it, or of the data."""
        inside = written.get("of")
        if section == "data" and isinstance(inside, dict):
            return self.fields_in(inside)
        return self.world.known

    def wanted(self, made: type[Component], name: str) -> bool:
        from tests.random_specs.values import SMALL

        default = made.model_fields[name].default
        costly = name in SMALL and isinstance(default, int | float | tuple) and not isinstance(default, bool)
        return costly or self.now_and_then(20 if name in RARE else SELDOM)

    def value(
        self, made: type[Component], name: str, annotation: Any, known_limits: Limits, written: Mapping[str, Any]
    ) -> Any:
        def held(kind: type[Component], bounds: Limits) -> Any:
            return self.component(kind, made, name, bounds)

        return Values(self.choose, held).of(name, annotation, known_limits)

    def component(self, kind: type[Component], made: type[Component], name: str, bounds: Limits) -> Any:
        """A component in a field of another: its name, a mapping, a number, or a path to one of the spec."""
        paths = self.shared.get(kind.kind, [])
        if kind.shared and paths and self.now_and_then(2):
            return self.choose(paths)
        if kind.kind == "value":
            return self.number(name, bounds)
        if kind.kind == "encoder":
            return self.projection()
        if kind.kind == "source":
            simple = [n for n in names("source") if not nests(component("source", n))]
            if self.member is None or self.now_and_then():
                self.member = self.choose(simple)
            return self.source(self.member, 0)
        return self.attempt(lambda: self.inner(kind.kind, name))

    def inner(self, kind: str, name: str) -> Any:
        inside = component(kind, self.choose(names(kind)))
        if kind == "transform" and "transforms" in inside.model_fields:
            raise Unfit("one inside one")
        return self.fields_of(inside, name, {})

    def number(self, name: str, bounds: Limits) -> Any:
        number = Values(self.choose, lambda *_: None).of(name, float, bounds)
        number = 0.1 if number == 0 and not bounds.hold(0) else number
        form = self.choose(["plain", "plain", "learned", "moving"])
        if form == "plain":
            self.uses.add("value/constant")
            return self.choose([number, {"use": "constant", "value": number}])
        if form == "learned" and name not in ("lr", "schedule", "weight", "momentum"):
            self.uses.add("value/learned")
            return {"use": "learned", "init": number}
        use = self.choose([n for n in names("value") if n not in ("constant", "learned")])
        self.uses.add(f"value/{use}")
        made = component("value", use)
        written = {"use": use, "initial": number or 0.5}
        return written | (
            {"final": number or 0.5} if "final" in made.model_fields else {"factor": 0.5, "places": [0.5]}
        )

    def projection(self) -> Any:
        def projects(use: str) -> bool:
            made = component("encoder", use)
            accepts = getattr(made, "accepts", ())
            return len(accepts) == 1 and "vector" in accepts[0] and not made.model_fields["of"].is_required()

        use = self.choose([use for use in names("encoder") if projects(use)])
        return self.fields_of(component("encoder", use), "head", {}, inner=True)

    # --- references ------------------------------------------------------------------------------------

    def references_of(
        self, made: type[Component], section: str, written: dict[str, Any], aims: dict[Place, Target]
    ) -> None:
        row: str | None = None
        for name, types in sorted(reference_fields(made).items(), key=lambda item: item[0] != "of"):
            info = made.model_fields[name]
            required = info.is_required()
            if name in written or name in LEFT_OPEN.get(made.kind, ()):
                continue
            if types == (Data,):
                if required or self.now_and_then(2):
                    written[name] = "other"
                continue
            if Model in types or (issubclass(made, Application) and name == "of"):
                continue
            if not required and name != "of" and not self.now_and_then(OPTIONAL.get((made.kind, name), 2)):
                continue
            many, mapped = self.counts(made, name)
            picked = self.pick(made, name, types, many, row, self.needs(made, written))
            if not picked and (required or name == "of") and many:
                raise Unfit(f"{made.use}.{name}")
            if not picked:
                continue
            row = row or picked[0].row
            several = "tuple" in str(info.annotation)
            if made.kind == "loss" and name != "of":
                picked = [c for c in picked if self.width_fits(made, written, aims, name, c)]
                if not picked and required:
                    raise Unfit(f"{made.use}.{name}")
                if not picked:
                    continue
            for place, choice in enumerate(picked):
                if mapped:
                    aims[name, "value"] = choice.target
                else:
                    aims[(name, place) if several else (name,)] = choice.target
            written[name] = [c.text for c in picked] if several and len(picked) > 1 else picked[0].text

    def counts(self, made: type[Component], name: str) -> tuple[int, bool]:
        """How many references a field gets, and whether it is a mapping of them."""
        info = made.model_fields[name]
        if "dict" in str(info.annotation):
            return 1, True
        if "tuple" not in str(info.annotation):
            return 1, False
        bounds = limits(info.metadata)
        if bounds.most == 0:
            return 0, False
        possible = [n for n in range(1, 4) if bounds.least <= n <= bounds.most]
        if name == "of" and not (issubclass(made, Encoder) and made.build is not Encoder.build):
            bound = binding(made) if getattr(made, made.method, None) is not None and made.method else None
            if bound is not None and not issubclass(made, Memory | Application):
                possible = [n for n in possible if bound.misfit(n) is None]
                if bound.misfit(0) is None and issubclass(made, Evaluator) and not bound.rest:
                    return 0, False
        accepts = getattr(made, "accepts", ())
        if name == "of" and accepts and not info.is_required():
            possible = [n for n in possible if n <= len(accepts)]
        return self.choose(possible or [1]), False

    def pick(
        self, made: type[Component], name: str, types: Sequence[type[RefType]], many: int, row: str | None,
        needs: Sequence[str],
    ) -> list[Choice]:  # fmt: skip
        """Things of the right types, alike in their rows (and, where they are compared, in their groups and width)."""
        picked: list[Choice] = []
        for place in range(many):
            found = self.world.choices(types)
            found = [c for c in found if self.suits(made, name, place, c)]
            if Encoded in types:
                found = [c for c in found if self.gives(c, needs)]
            if (row or picked) and not issubclass(made, Encoder):
                found = [c for c in found if c.row == (row or picked[0].row) or not c.row]
            if issubclass(made, Encoder) and picked:
                found = [c for c in found if c.row in (picked[0].row, "")]
            if name == "of" and issubclass(made, Encoder) and not accepts_raw(made) and not self.now_and_then(20):
                found = [c for c in found if c.width is not None] or found
            if place == 0 and name == "of" and made.kind in ("loss", "memory") and not self.now_and_then(20):
                found = [c for c in found if c.target.section == "encoders" and self.world.trains(c.target.owner)]
            if name == "of" and made.kind in ("loss", "memory") and not self.now_and_then(10):
                found = [
                    c for c in found if c.declared and c.declared.modality in ("vector", "logits", "tokens")
                ] or found
            if name == "of" and picked and not getattr(made, "accepts", ()):
                found = [c for c in found if c.width == picked[0].width and c.groups == picked[0].groups] or found
            if issubclass(made, Evaluator) and not self.now_and_then(100):
                found = [c for c in found if c not in picked]
                found = [c for c in found if self.measured(made, name, place, c)]
            if not found:
                return []
            picked.append(self.choose(found))
        return picked

    def needs(self, made: type[Component], written: Mapping[str, Any]) -> Sequence[str]:
        """Outputs that the scores of a component need of whole encodings; `pooled` where it has none."""
        defaults = {n: i.default for n, i in made.model_fields.items() if "Score" in str(i.annotation)}
        found: list[str] = []
        for name, default in defaults.items():
            value = written.get(name, default)
            value = self.written["parts"][value.split(".")[1]] if isinstance(value, str) and "." in value else value
            use = value["use"] if isinstance(value, dict) else value
            if isinstance(use, str):
                found += component("score", use.removeprefix("score/")).needs
        return found or made.needs or ("pooled",)

    def gives(self, choice: Choice, needs: Sequence[str]) -> bool:
        known = self.world.outputs_of(choice.target.owner) or {}
        return choice.target.section != "encoders" or choice.target.output is not None or all(n in known for n in needs)

    def width_fits(
        self, made: type[Component], written: Mapping[str, Any], aims: Mapping[Place, Target], name: str, choice: Choice
    ) -> bool:  # fmt: skip
        """Whether a further reference of a loss can stand beside its inputs, as far as their types tell."""
        if name == "targets":
            return choice.declared is not None and choice.declared.dtype.startswith("int")
        if name == "labels" and choice.declared is not None and choice.declared.modality == "number":
            return self.now_and_then(10)
        of = [self.world.type_of(target) for place, target in aims.items() if place[0] == "of"]
        first = of[0] if of else None
        if choice.target.section in ("encoders", "memories") and first is not None:
            needs = self.needs(made, written)
            known = self.world.outputs_of(choice.target.owner) or {}
            there = known.get(needs[0]) if choice.target.output is None and needs[0] in known else choice.declared
            return there is None or not there.size or not first.size or there.size[-1] == first.size[-1]
        return name != "rows" or choice.declared is None or choice.declared.dtype == "bool"

    def measured(self, made: type[Evaluator], name: str, place: int, choice: Choice) -> bool:
        """Whether an evaluator takes a choice, as far as it says so: a group a row, an encoder of its own values."""
        if name != "of":
            form = choice.declared.modality if choice.declared is not None else ""
            few = choice.declared is None or 2 <= len(choice.declared.names) <= 4
            labels = Labels in reference_fields(made)[name]
            return (few if form == "label" else not labels or form == "labels") or self.now_and_then(20)
        if not self.trained(choice.target.owner) and not self.now_and_then(10):
            return False
        if place in made.members:
            sizes = choice.declared.groups if choice.declared is not None else ()
            return len(sizes) == 1 and made.members[place] in (
                None,
                sizes[0],
                *([sizes[0]] if sizes[0] is None else []),
            )
        if place in made.encodes:
            inputs = [self.world.type_of(target) for target in self.world.inputs(choice.target.owner).values()]
            return [one.modality if one is not None else None for one in inputs] == [made.encodes[place]]
        return True

    def trained(self, owner: Owner) -> bool:
        """Whether an encoder is in the model that evaluations use, or learned nothing from the data."""
        read = [
            target
            for loss in self.world.names("losses")
            for target in self.world.targets(Owner("losses", loss)).values()
        ]
        known = {one for target in read for one in (target.owner, *self.world.reach(target.owner))}
        behind = {owner, *self.world.reach(owner)}
        learning = [one for one in behind if isinstance(made := self.world.component(one), Encoder) and made.learns()]
        return not known or known.issuperset(learning)

    def suits(self, made: type[Component], name: str, place: int, choice: Choice) -> bool:
        """Whether a declaration takes a choice: its modality and its group axes."""
        declared = choice.declared
        accepts = getattr(made, "accepts", ())
        if name == "of" and accepts:
            if place >= len(accepts) or declared is None:
                return False
            return declared.modality in accepts[place]
        reads = made.reads
        if declared is not None and name in reads and declared.modality not in reads[name]:
            return False
        if made.kind == "sampler":
            axes = getattr(made, "axes", ())
            classes = declared is None or declared.modality not in ("label", "text", "id") or "number" in reads[name]
            few = declared is not None and declared.modality == "label" and len(declared.names) <= 4
            return (not choice.groups or "*" in axes) and (classes or few or self.now_and_then(20))
        if name != "of" and made.kind in ("loss", "stage") and choice.groups and not self.now_and_then(20):
            return False
        if name == "of" and not issubclass(made, Encoder):
            axes = getattr(made, "axes", ())
            return "*" in axes or set(choice.groups) <= set(axes)
        return True

    # --- validation ------------------------------------------------------------------------------------

    def checked(self, made: type[Component], fields: Mapping[str, Any]) -> Component | None:
        return self.valid(made, {k: v for k, v in fields.items() if k != "use"})

    def valid(self, made: type[BaseModel], fields: Mapping[str, Any]) -> Any:
        """The declaration, or None where its own rules refuse it: `check` will say so."""
        try:
            return made.model_validate(fields)
        except ValidationError:
            return None


def accepts_raw(made: type[Component]) -> bool:
    """Whether the first input of an encoder is raw data."""
    accepts = getattr(made, "accepts", ())
    return bool(accepts) and any(map(is_raw, accepts[0]))


def same_form(a: TensorType | None, b: TensorType | None) -> bool:
    return a is not None and b is not None and (a.modality, a.size, a.axes[:1]) == (b.modality, b.size, b.axes[:1])


def nests(made: type[Component]) -> bool:
    return any("Source" in str(info.annotation) for info in made.model_fields.values())
