"""A component under test: its declaration, and fixed inputs made from the types of its references."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from mmflow.plugin import Component, Encoding, Tokens
from mmflow.plugin.references import (
    Array,
    Bank,
    Column,
    Encoded,
    Grid,
    Index,
    Labels,
    Pooled,
    RawField,
    RefType,
    TokenSequence,
    Weight,
    reference_fields,
)
from mmflow.plugin.registry import registry
from mmflow.spec.text.yaml_reader import read_tree
from mmflow.testing.compute import Held, Input

ROWS, DIM, CLASSES, LENGTH = 11, 6, 4, 5
"""Sizes of made inputs: odd, and different from each other, so that a swapped axis shows."""


class Untestable(Exception):
    """The kit cannot make inputs for this component; the message says what its author has to give."""


@dataclass(frozen=True)
class Case:
    """A component and the values of its references, by the name that the declaration gives them."""

    component: Component
    inputs: Mapping[str, Input] = field(default_factory=dict)
    draws: bool = False
    """Whether results differ with the order and number of rows, as random numbers are drawn by row."""
    detached: tuple[str, ...] = ()
    """Inputs that get no gradient (targets), as `compute_on` names them."""
    stopped: bool = False
    """Whether targets are made of the inputs without gradient, so that the gradient is not that of the value: give a
    `reference` whose gradient it is."""
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Weights that the component has itself, by path (`prototypes.vectors`), instead of drawn ones."""
    reference: Callable[..., torch.Tensor] | None = None
    """A second way to compute the loss of `inputs`, in float64, given by the author."""

    @property
    def label(self) -> str:
        return f"{self.component.kind}/{self.component.use}"

    def with_inputs(self, change: Callable[[str, Input], Input]) -> Case:
        return replace(self, inputs={name: change(name, value) for name, value in self.inputs.items()})


def example_of(made: type[Component]) -> Component:
    """The component of its class's `example`; where that shows another component around it, its defaults."""
    text = made.example
    if not text:
        return made.model_validate({})
    tree = read_tree(text, made.use, [])
    written = None if tree is None else tree.plain()
    if isinstance(written, Mapping) and written.get("use") == made.use:
        return made.model_validate({name: value for name, value in written.items() if name != "use"})
    return made.model_validate(_inside(written, made.use) or {})


def _inside(written: object, use: str) -> Mapping[str, object] | None:
    if isinstance(written, Mapping):
        if str(written.get("use")).rpartition("/")[2] == use:
            return {name: value for name, value in written.items() if name != "use"}
        written = list(written.values())
    if isinstance(written, list):
        return next((found for part in written if (found := _inside(part, use)) is not None), None)
    return None


def names_of(component: Component) -> Iterator[tuple[str, tuple[type[RefType], ...]]]:
    """Every reference of a component (without its places inside a list) and the types that its field accepts."""
    for name, types in reference_fields(type(component)).items():
        value = getattr(component, name)
        for reference in (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        ):
            if reference is not None:
                yield str(reference), types


def loss_case(made: type[Component] | Component, *, seed: int = 0) -> Case:
    """A case of a loss (or of another component that reads encodings), with inputs made from its references."""
    component = made if isinstance(made, Component) else example_of(made)
    draw = torch.Generator().manual_seed(seed)
    inputs: dict[str, Input] = {}
    renames: dict[str, str] = {}
    for reference, types in names_of(component):
        name = renames.setdefault(reference, reference.replace(".", "_"))
        inputs[name] = _value(types, draw, reference, component)
    plain = json.loads(json.dumps(component.declared()))
    for field_name in reference_fields(type(component)):
        if field_name in plain:
            plain[field_name] = _renamed(plain[field_name], renames)
    again = type(component).model_validate({key: value for key, value in plain.items() if key != "use"})
    return Case(again, inputs)


def _renamed(value: object, renames: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return renames.get(value, value)
    if isinstance(value, list):
        return [_renamed(part, renames) for part in value]
    if isinstance(value, Mapping):
        return {key: _renamed(part, renames) for key, part in value.items()}
    return value


def _value(types: tuple[type[RefType], ...], draw: torch.Generator, name: str, component: Component) -> Input:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    if Encoded in types:
        return Encoding({"pooled": normal(ROWS, DIM), "tokens": Tokens(normal(ROWS, LENGTH, DIM), _mask())})
    if Pooled in types or Array in types:
        return normal(ROWS, DIM)
    if TokenSequence in types and RawField not in types:
        return Tokens(normal(ROWS, LENGTH, DIM), _mask())
    if Grid in types:
        return Encoding({"grid": normal(ROWS, 3, 2, DIM)})
    if Labels in types or Index in types:
        return torch.arange(ROWS) % CLASSES
    if Weight in types:
        return torch.rand(ROWS, generator=draw, dtype=torch.float64) + 0.5
    if Bank in types:
        return Held({"value": normal(ROWS + 2, DIM)})
    wanted = " or ".join(t.says for t in types if t is not Column)
    raise Untestable(f"{component.kind}/{component.use}: give a value for `{name}` ({wanted})")


def _mask() -> torch.Tensor:
    lengths = torch.arange(ROWS) % LENGTH + 1
    return torch.arange(LENGTH)[None] < lengths[:, None]


def all_components(*where: str, kinds: tuple[str, ...] = ()) -> list[str]:
    """Names (`loss/infonce`) of the components of distributions or of modules, all without one; of some kinds."""

    def belongs(path: str, distribution: str) -> bool:
        return not where or any(distribution == each or path.split(":")[0].split(".")[0] == each for each in where)

    found = registry().registrations()
    return [
        f"{one.kind}/{one.name}"
        for one in found
        if belongs(one.path, one.distribution)
        and (not kinds or one.kind in kinds)
        and one.distribution != "mmflow.testing"
    ]
