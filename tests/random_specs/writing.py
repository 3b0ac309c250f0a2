"""What is written for a component: its name, its references, and values of its other fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from mmflow.plugin import Component, ComponentError, TensorType
from mmflow.plugin.kinds import Application, Source
from mmflow.plugin.references import reference_fields
from tests.random_specs.drawing import SELDOM, Unfit
from tests.random_specs.known import known
from tests.random_specs.referring import Aims, Referring
from tests.random_specs.registered import component, names
from tests.random_specs.values import SMALL, Limits, Unwritable, Values, limits

LEFT_OPEN: Mapping[str, tuple[str, ...]] = {
    "encoder": ("init", "lora", "tokens", "rows"),
    "stage": (
        "compile", "workers", "checkpoint_every", "log_every", "groups", "updates", "losses", "seed", "sampler",
        "steps", "epochs", "dims",
    ),
    "source": ("quarantine", "cache", "revision", "config", "stream", "columns"),
    "transform": ("revision", "pretrained"),
    "tokenizer": ("revision",),
    "constraint": ("match",),
    "loss": ("constrain", "dims", "dim_weights"),
    "score": ("constrain",),
}  # fmt: skip
"""Fields that stay at their defaults: files, places and settings of the machine, and what is drawn elsewhere."""
WITHOUT_ROWS = ("graphs", "recorded")
OF_THE_WEIGHTS = ("head", "freeze", "lr_scale", "constrain")
"""Fields that say nothing of an encoder that applies another's weights."""
CONSTRAINED = ("linear", "mlp", "lookup", "prototype_vectors", "adapter")
"""Encoders whose weights may stand anywhere: deeper ones overflow on a simplex."""
RARE = ("freeze", "constrain", "passes", "active")


class Writing(Referring):
    """Draws components with their fields."""

    def fields_of(
        self, made: type[Component], given: Mapping[str, Any], *, aims: Aims | None = None, inner: bool = False,
        about: Mapping[str, TensorType] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What is written for a component beside `given`; the targets of its references come into `aims`.

        `inner`: a projection of another encoder, which has no references. `about`: the fields of the data that it is
        about.
        """
        self.uses.add(f"{made.kind}/{made.use}")
        written: dict[str, Any] = {"use": made.use, **given}
        for name, info in made.model_fields.items():
            # Scores first: they say which outputs the references must lead to.
            if "Score" in str(info.annotation) and (info.is_required() or self.now_and_then(2)):
                written[name] = self.value(made, name, info.annotation, limits(info.metadata))
        if not inner:
            self.references_of(made, written, {} if aims is None else aims)
        without = (*reference_fields(made), *LEFT_OPEN.get(made.kind, ()), *(("head",) if inner else ()))
        without += OF_THE_WEIGHTS if issubclass(made, Application) else ()
        for name, info in made.model_fields.items():
            alias = info.alias or name
            if name == "constrain" and made.kind == "encoder" and made.use not in CONSTRAINED:
                continue
            if alias in written or name in without or not (info.is_required() or self.writes(made, name)):
                continue
            try:
                written[alias] = self.value(made, name, info.annotation, limits(info.metadata))
            except Unwritable:
                continue
        inside = written.get("of")
        own = self.fields_in(inside) if made.kind == "source" and isinstance(inside, dict) else about
        fields = self.world.known if own is None else own
        return written | known(made.kind, made.use, written, fields, self.files, self.choose)

    def writes(self, made: type[Component], name: str) -> bool:
        """Whether a field that has a default is written: always where its default is large."""
        default = made.model_fields[name].default
        # What is wanted and may stand in this field.
        held = {one.partition("/")[0].capitalize() for one in self.wishes()}
        if any(f".{kind}" in str(made.model_fields[name].annotation) for kind in held) and not self.now_and_then():
            return True
        large = name in SMALL and isinstance(default, int | float | tuple) and not isinstance(default, bool)
        return large or self.now_and_then(20 if name in RARE else SELDOM)

    def value(self, made: type[Component], name: str, annotation: Any, bounds: Limits) -> Any:
        # A stage has no model of its own that could learn a number.
        bounds = replace(bounds, by_clock=True) if made.kind == "stage" and not self.strange() else bounds
        return Values(self.choose, lambda kind, inner: self.held(kind, name, inner)).of(name, annotation, bounds)

    def held(self, kind: type[Component], name: str, bounds: Limits) -> Any:
        """A component in a field of another: its name, a mapping, a number, or a path to one of the spec."""
        if kind.kind == "score" and bounds.by_clock:
            # A stage has no model of its own that could train one.
            fixed = [use for use in names("score") if not hasattr(component("score", use), "build")]
            return self.fields_of(component("score", self.named("score", fixed)), {})
        paths = self.shared.get(kind.kind, [])
        if kind.shared and paths and self.now_and_then(2):
            return self.choose(paths)
        if kind.kind == "value":
            return self.number(name, bounds)
        if kind.kind == "encoder":
            return self.projection()
        if kind.kind == "source":
            if self.member is None or self.now_and_then():
                plain = [name for name in names("source") if not nests(component("source", name))]
                self.member = self.choose([name for name in plain if name not in WITHOUT_ROWS])
            return self.source(self.member, 0)
        found = self.attempt(lambda: self.one_of(kind.kind))
        if found is None:
            raise Unfit(f"{name}: no {kind.kind} fits")
        return found

    def one_of(self, kind: str) -> Any:
        made = component(kind, self.named(kind, names(kind)))
        if kind == "transform" and "transforms" in made.model_fields:
            raise Unfit("one inside one")
        return self.fields_of(made, {})

    def number(self, name: str, bounds: Limits) -> Any:
        """A number that moves: constant, learned, or by a schedule within the bounds."""
        number = Values(self.choose, lambda *_: None).of(name, float, bounds)
        number = 0.1 if number == 0 and not bounds.hold(0) else number
        form = self.choose(["plain", "plain", "learned", "moving"])
        if form == "plain" or (form == "learned" and bounds.by_clock):
            self.uses.add("value/constant")
            return self.choose([number, {"use": "constant", "value": number}])
        if form == "learned" and name != "weight":
            self.uses.add("value/learned")
            return {"use": "learned", "init": number}
        made = component("value", self.choose([n for n in names("value") if n not in ("constant", "learned")]))
        self.uses.add(f"value/{made.use}")
        end = {"final": number or 0.5} if "final" in made.model_fields else {"factor": 0.5, "places": [0.5]}
        return {"use": made.use, "initial": number or 0.5, **end}

    def projection(self) -> Any:
        def projects(use: str) -> bool:
            made = component("encoder", use)
            accepts = getattr(made, "accepts", ())
            return len(accepts) == 1 and "vector" in accepts[0] and not made.model_fields["of"].is_required()

        use = self.choose([use for use in names("encoder") if projects(use)])
        return self.fields_of(component("encoder", use), {}, inner=True)

    def source(self, name: str, part: int) -> dict[str, Any]:
        if (there := self.files.of(name, part)) is not None:
            self.uses |= {f"source/{name}", *({"source/table", "source/arrays"} if name in ("join", "beside") else ())}
            return {"use": name, **there}
        return self.fields_of(component("source", name), {}, about={})

    def fields_in(self, source: Mapping[str, Any]) -> Mapping[str, TensorType]:
        """The fields of a source; none where it cannot be read: `check` will say why."""
        made = valid(component("source", source["use"]), source)
        try:
            return made.fields() if isinstance(made, Source) else {}
        except ComponentError:
            return {}


def valid(made: type[BaseModel], written: Mapping[str, Any]) -> Any:
    """The declaration, or None where its own rules refuse it: `check` will say so."""
    try:
        return made.model_validate({name: value for name, value in written.items() if name != "use"})
    except ValidationError:
        return None


def nests(made: type[Component]) -> bool:
    return any("Source" in str(info.annotation) for info in made.model_fields.values())
