"""The outputs of encoders that a stage reads, and their forms: one vector a row, a sequence of vectors, a grid.

A reader needs outputs by name (`pooled`, `tokens`, `grid`). A reference to a whole encoder brings those; a reference to
one output brings that one in the place of the one that is needed, if it has its form. `check` compares the declared
forms, the rehearsal of a run those of real values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Score, View
from mmflow.plugin.modality import modality
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import Argument, TensorType, Tokens
from mmflow.spec.components.classes import field_of

VECTOR, TOKENS, GRID = "one vector a row", "a sequence of vectors a row", "a grid of vectors a row"

FORMS: Mapping[str, str] = {"pooled": VECTOR, "tokens": TOKENS, "grid": GRID}
"""The form of an output that a reader needs, by its name. Others are known to their readers alone."""


class Holder(Protocol):
    """A wiring, as far as the needs of an entry go."""

    def component(self, owner: Owner) -> Component | View | None: ...

    def held(self, owner: Owner) -> Iterator[tuple[Place, Component]]: ...


def needed_outputs(wiring: Holder, owner: Owner) -> tuple[str, ...]:
    """Outputs that an entry reads of a whole encoding: those that its scores need, else its own, else `pooled`."""
    needs = [need for _, held in wiring.held(owner) if isinstance(held, Score) for need in held.needs]
    component = wiring.component(owner)
    own = component.needs if isinstance(component, Component) else ()
    return tuple(dict.fromkeys(needs or own or ("pooled",)))


def reference_at(made: BaseModel | None, place: Place) -> str:
    """The reference at a place of a component's fields, as a spec has it; empty where there is none."""
    value: Any = made
    for part in place:
        if value is None:
            return ""
        if isinstance(value, BaseModel):
            value = getattr(value, field_of(type(value), str(part)) or "", None)
        else:
            value = value[part]
    return str(value or "")


def brought(target: Target, needs: Sequence[str]) -> dict[str, str]:
    """The outputs of an encoder that a reference brings, each under the name by which its reader finds it."""
    if target.output is None:
        return {need: need for need in needs}
    return {needs[0] if len(needs) == 1 else target.output: target.output}


def declared_form(declared: TensorType) -> str | None:
    """The form that a declared output has, in words; None where only its values tell."""
    if declared.modality == "unknown":
        return None
    role = modality(declared.modality).role
    if role in ("tokens", "grid"):
        return TOKENS if role == "tokens" else GRID
    return VECTOR if len(declared.size) == 1 or role == "vector" else _array(len(declared.size) or None)


def is_sequence(declared: TensorType) -> bool:
    """Whether rows of a field come as sequences under a mask, as their length is not declared."""
    return modality(declared.modality).ragged and declared.size[:1] == (None,)


def form_of(value: Argument, groups: int) -> str:
    """The form of an output's values under so many group axes, in words."""
    if isinstance(value, Tokens):
        return TOKENS
    axes = value.ndim - 1 - groups
    return {1: VECTOR, 3: GRID}.get(axes) or _array(axes) or ""


def _array(axes: int | None) -> str | None:
    return None if axes is None else "one number a row" if axes == 0 else f"an array of {axes} axes a row"


def misfit(need: str, output: str, form: str | None) -> str | None:
    """The form that a reader takes in the place of `need`, where `output` has another; None where it can be read."""
    wanted = FORMS.get(need)
    if wanted is None:
        return None if output == need else f"the output {need}"
    return None if form in (None, wanted) else wanted
