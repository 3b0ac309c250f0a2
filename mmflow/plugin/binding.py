"""How the method of a component gets its arguments: one reading of the signature for `check` and for the run.

A parameter named like a field of the component receives that field; a parameter named like a request that the kind
allows receives it; the others receive the references in `of`, in order. A module that `build` returns is bound like the
method that it stands for. `RULES` is the table of kinds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmflow.plugin.component import Component, ComponentError, with_article
from mmflow.plugin.values import Argument

REQUESTS: Mapping[str, str] = {
    "clock": "`Clock`: optimizer steps and epochs done and to do",
    "generator": "`torch.Generator` on the CPU, at an address of the component and, in row nodes, of the row's id",
    "ids": "list of str: the id of each row",
    "model": "an object whose `encode` encodes further values",
    "present": "bool [N, *groups]: the members of groups that are present in all inputs; None for all",
    "step": "int: optimizer steps done",
    "texts_of": "for each reference in `of` the texts that it reads, one or a list a row; None where it reads others",
}
"""Arguments that are no fields, by the name of the parameter that asks for them."""


@dataclass(frozen=True)
class Rule:
    """How methods of one kind are called."""

    requests: frozenset[str] = frozenset()
    leading: tuple[str, ...] = ()
    """Parameters that the core fills itself, in front of all others."""
    inputs: Literal["by name", "first", "none"] = "by name"
    """Which parameters receive `of`: those that are neither field nor request; the first ones, whatever their names;
    or none, as `of` is in a leading parameter."""


RULES: Mapping[str, Rule] = {
    "encoder": Rule(frozenset({"generator", "clock", "step"}), inputs="first"),
    "loss": Rule(frozenset({"generator", "clock", "step", "ids", "present"})),
    "memory": Rule(frozenset({"generator", "clock", "step", "ids"}), leading=("state", "columns"), inputs="none"),
    "value": Rule(frozenset({"clock", "step"})),
    "stage": Rule(frozenset({"generator", "ids", "model", "texts_of"})),
}
"""Kinds whose methods receive arguments by name. Methods of other kinds are called as their docstrings say, and a
method of a plugin's own kind may ask for its fields alone."""

_TAPS = "taps"


@dataclass(frozen=True)
class Binding:
    """The parameters of one method, each with the part that it has in a call."""

    label: str
    parameters: tuple[inspect.Parameter, ...]
    inputs: tuple[str, ...]
    """Parameters that receive one reference of `of` each, in order."""
    rest: bool
    """Whether `*of` takes what is left of `of`."""
    fields: tuple[str, ...]
    requests: tuple[str, ...]
    unknown: tuple[str, ...]
    """Parameters without a default that nothing fills."""
    leading: tuple[str, ...] = ()
    any_name: bool = False
    """Whether the method takes arguments of any name."""

    def misfit(self, count: int) -> str | None:
        """Why so many references in `of` do not fit; None where they do."""
        least = sum(self._required(name) for name in self.inputs)
        if least <= count and (self.rest or count <= len(self.inputs)):
            return None
        number = f"{least} or more" if self.rest else str(least)
        if not self.rest and least < len(self.inputs):
            number = f"{least} to {len(self.inputs)}"
        names = f" ({', '.join(self.inputs)})" if self.inputs else ""
        return f"{number} input{'' if number == '1' else 's'}{names}"

    def takes(self, name: str) -> bool:
        return self.any_name or any(p.name == name for p in self.parameters)

    def call(
        self,
        function: Callable[..., Argument],
        of: Sequence[Argument],
        field: Callable[[str], Argument],
        request: Callable[[str], Argument],
        *,
        leading: Sequence[Argument] = (),
        named: Mapping[str, Argument] | None = None,
    ) -> Argument:
        """Call `function` with `of`, its fields and its requests; `named` are further arguments by name."""
        values: dict[str, Argument] = dict(zip(self.leading, leading, strict=True))
        values.update(zip(self.inputs, of, strict=False))
        values.update((name, field(name)) for name in self.fields)
        values.update((name, request(name)) for name in self.requests)
        values.update(named or {})
        positional: list[Argument] = []
        for parameter in self.parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional += of[len(self.inputs) :]
            elif parameter.kind is parameter.KEYWORD_ONLY or parameter.name not in values:
                break
            else:
                positional.append(values.pop(parameter.name))
        return function(*positional, **values)

    def _required(self, name: str) -> bool:
        return any(p.name == name and p.default is p.empty for p in self.parameters)


def binding(
    component: Component | type[Component], function: Callable[..., Argument] | None = None, *, count: int | None = None
) -> Binding:
    """The binding of a component's method, or of the `forward` of its module.

    `count` is the number of references in `of`, where it is known: an encoder's method receives them first. Raises
    `ComponentError` where a parameter asks for something that the kind does not get.
    """
    made = component if isinstance(component, type) else type(component)
    rule = RULES.get(made.kind, Rule())
    named = made.method or "forward"
    if function is None:
        function = getattr(component, made.method)
    assert function is not None
    label = f"{made.kind} {made.use!r}: {named}()"
    parameters = tuple(p for p in inspect.signature(function).parameters.values() if p.name != "self")
    leading = rule.leading
    if tuple(p.name for p in parameters[: len(leading)]) != leading:
        raise ComponentError(f"{label} begins with other parameters", expected=", ".join(leading))
    takes_inputs = rule.inputs == "first" or (rule.inputs == "by name" and "of" in made.model_fields)
    inputs: list[str] = []
    fields: list[str] = []
    requests: list[str] = []
    unknown: list[str] = []
    rest = any_name = False
    for place, parameter in enumerate(parameters[len(leading) :]):
        name = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = rule.inputs != "none"
        elif parameter.kind is parameter.VAR_KEYWORD:
            any_name = True
        elif (
            rule.inputs == "first"
            and parameter.kind is not parameter.KEYWORD_ONLY
            and not rest
            and (place < count if count is not None else parameter.default is parameter.empty)
        ):
            inputs.append(name)
        elif rule.inputs == "first" and name == _TAPS:
            continue
        elif name in rule.requests and (name == "model" or name not in made.model_fields):
            _granted(component, name, label)
            requests.append(name)
        elif name in made.model_fields:
            fields.append(name)
        elif name in REQUESTS:
            asked = ", ".join(sorted(rule.requests)) or "nothing"
            raise ComponentError(
                f"{label} asks for `{name}`, which {with_article(made.kind)} does not get",
                found=name,
                hint=f"`{name}` is reserved for {REQUESTS[name]}; {with_article(made.kind)} may ask for {asked}",
            )
        elif parameter.kind is not parameter.KEYWORD_ONLY and takes_inputs and not (rest and rule.inputs == "first"):
            inputs.append(name)
        elif parameter.default is parameter.empty:
            unknown.append(name)
    if unknown:
        may = ", ".join(sorted(rule.requests)) or "no request"
        raise ComponentError(
            f"{label} asks for {unknown[0]!r}, which is no field",
            found=unknown[0],
            expected=f"a field ({', '.join(made.model_fields)}) or one of {may}",
        )
    return Binding(
        label, parameters, tuple(inputs), rest, tuple(fields), tuple(requests), tuple(unknown), leading, any_name
    )


def _granted(component: Component | type[Component], name: str, label: str) -> None:
    """Refuse a request that this very component cannot have."""
    reason = "" if isinstance(component, type) else component.withholds(name)
    if reason:
        raise ComponentError(f"{label} asks for `{name}`: {reason}", found=name)
