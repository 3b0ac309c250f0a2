"""What fits what: transforms and the types of their fields, inputs of one form, another part of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.plugin import Component, ComponentError, TensorType
from mmflow.plugin.kinds import Transform, View
from tests.random_specs.registered import component
from tests.random_specs.values import limits
from tests.random_specs.writing import valid


def other_part(first: Mapping[str, Any]) -> dict[str, Any]:
    """The same source with other samples: another split, or another folder of files."""

    def other(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("/part0/", "/part1/")
        return (
            other_part(value) if isinstance(value, dict) else [*map(other, value)] if isinstance(value, list) else value
        )

    second = {name: other(value) for name, value in first.items()}
    if "split" in second:
        second["split"] = {"train": "test", "test": "train"}.get(second["split"], second["split"])
    return second


def transformed(
    name: str, types: Sequence[TensorType], written: Mapping[str, Any] | None = None
) -> list[TensorType] | None:  # fmt: skip
    """The types after a transform; None where it does not take these. Without `written`, whether it may take them."""
    rates = [one.rate for one in types if one.rate is not None]
    made = component("transform", name)
    by_rate = {"rate": rates[0]} if written is None and rates and "rate" in made.model_fields else {}
    one = valid(made, by_rate if written is None else written)
    if one is None:
        return None if written is not None else list(types)
    assert isinstance(one, Transform)
    try:
        View.model_validate({"of": [f"f{i}" for i in range(len(types))], "apply": [one]}).outputs(*types)
        return [one.result(given) for given in types]
    except (ValueError, ComponentError):
        return None


def same_form(a: TensorType | None, b: TensorType | None) -> bool:
    return a is not None and b is not None and (a.modality, a.size, a.axes[:1]) == (b.modality, b.size, b.axes[:1])


def limits_of(made: type[Component]) -> int:
    """Inputs that a component takes at most; 0 for one without any."""
    of = made.model_fields.get("of")
    return limits(of.metadata).most if of is not None else 0
