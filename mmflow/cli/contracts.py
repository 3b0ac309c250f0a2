"""The contract of a kind, for `mmflow show KIND`: what an author writes, what it receives and returns."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from mmflow.cli.components import FieldDescription, describe_fields, field_lines
from mmflow.plugin.binding import REQUESTS, RULES
from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Evaluator, Stage
from mmflow.scaffold.components import OPENS, component_text, kinds

_WIDTH = 110


@dataclass(frozen=True)
class Method:
    """A method of a kind: one that a component has to write, or may write."""

    name: str
    signature: str
    doc: str
    required: bool


@dataclass(frozen=True)
class Contract:
    """All that `show` tells of a kind."""

    kind: str
    base: str
    registered: str
    doc: str
    method: str
    """The method that the core calls with arguments by name; empty where methods are called as they stand."""
    requests: dict[str, str]
    """Arguments that this method may ask for by their names."""
    methods: tuple[Method, ...]
    fields: tuple[FieldDescription, ...]
    """Fields that every component of the kind has."""
    smallest: str
    """The module of the smallest component; empty where there is none."""

    def text(self) -> str:
        """The lines that `mmflow show` prints."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.kind} (a kind)"
        yield f'  subclass      mmflow.plugin.{self.base}, with name="my_{self.kind}"'
        yield f'  named         "{self.registered}/my_{self.kind}" in the hook mmflow_components of a plugin'
        if self.smallest:
            yield f"  begin         mmflow new {self.kind} my_{self.kind}"
        yield ""
        yield from (f"  {line}".rstrip() for line in self.doc.splitlines())
        for title, required in (("write", True), ("may be written too", False)):
            methods = [method for method in self.methods if method.required == required]
            if methods:
                yield ""
                yield f"  {title}"
                for method in methods:
                    yield f"    {method.name}{method.signature}"
                    yield from textwrap.wrap(method.doc, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
        if self.requests:
            yield ""
            yield f"  arguments that {self.method} may ask for by name, beside its fields"
            width = max(map(len, self.requests))
            yield from (f"    {name:<{width}}  {said}" for name, said in self.requests.items())
        if self.fields:
            yield ""
            yield "  fields that every component of the kind has"
            yield from field_lines(self.fields)
        if self.smallest:
            yield ""
            yield "  the smallest one"
            yield ""
            yield from (f"    {line}".rstrip() for line in self.smallest.splitlines())


def _bases() -> dict[str, type[Component]]:
    """The classes that open kinds, by the word that `show` takes."""
    found: dict[str, type[Component]] = {}
    waiting = list(Component.__subclasses__())
    while waiting:
        made = waiting.pop()
        waiting += made.__subclasses__()
        if made.__dict__.get("_opens_kind"):
            found[made.kind] = made
    return {**found, "evaluator": Evaluator}


def is_kind(name: str) -> bool:
    """Whether `name` is a kind of component."""
    return name in _bases()


def contract(kind: str) -> Contract:
    """What is asked of the components of a kind."""
    base = _bases()[kind]
    opened = OPENS.get(kind, kind)
    rule = RULES.get(opened)
    asked = rule.requests if rule is not None and base.method else frozenset()
    return Contract(
        kind=kind,
        base=base.__name__,
        registered=opened,
        doc=inspect.cleandoc(base.__doc__ or ""),
        method=base.method,
        requests={name: said for name, said in REQUESTS.items() if name in asked},
        methods=tuple(_methods(base)),
        fields=describe_fields(base),
        smallest=component_text(kind, f"my_{kind}") if kind in kinds() else "",
    )


def _methods(base: type[Component]) -> Iterator[Method]:
    seen: set[str] = set()
    for owner in base.__mro__:
        if owner is Component or not issubclass(owner, Component):
            break
        for name, made in vars(owner).items():
            if name.startswith(("_", "model_")) or name in seen or not inspect.isfunction(made):
                continue
            seen.add(name)
            code = inspect.getsource(made)
            # What a kind leaves to its components raises, and stages that are run by another method need no `run`.
            required = "raise NotImplementedError" in code and not (owner is Stage and issubclass(base, Evaluator))
            doc = " ".join((made.__doc__ or "").split())
            if doc or required:
                yield Method(name, str(inspect.signature(made)).replace("'", ""), doc, required)
