"""Every number of every component is bounded: a typing error is told, and never hangs or fills the memory."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, Field, ValidationError

from mmflow.plugin import Component, Loss, any_number
from mmflow.plugin.registry import registry


def _numbers(annotation: Any) -> bool:
    return annotation in (int, float) or any(_numbers(part) for part in get_args(annotation))


def _reason(model: type[BaseModel], name: str) -> str:
    extra = model.model_fields[name].json_schema_extra
    return str(extra.get("any_number", "")) if isinstance(extra, dict) else ""


def _refuses(component: type[Component], name: str, value: object) -> bool:
    field = component.model_fields[name]
    try:
        component.model_validate({field.alias or name: value})
    except ValidationError as error:
        return any(raw["loc"][:1] == (field.alias or name,) for raw in error.errors())
    return False


def test_every_number_of_every_installed_component_has_a_bound_or_a_reason() -> None:
    free, seen = [], 0
    for found in registry().registrations():
        component = registry().get(found.kind, found.name)
        for name, field in component.model_fields.items():
            if not _numbers(field.annotation):
                continue
            seen += 1
            single = get_origin(field.annotation) not in (tuple, dict)
            values = [10**20, 1e31] if single else [[10**20], {"a": 10**20}, [1e31], {"a": 1e31}]
            if not any(_refuses(component, name, value) for value in values) and not _reason(component, name):
                free.append(f"{found.kind}/{found.name}.{name}")
    assert not free
    assert seen > 200


class Widths(BaseModel):
    inner: int = 1
    share: float = 1.0


class Free(Loss, name="free"):
    """Fields without bounds of their own."""

    count: int = 1
    shares: dict[str, float] = {}
    pairs: tuple[tuple[int, int], ...] = ()
    widths: Widths = Widths()
    seed: int = Field(0, lt=2**63)
    compared: float = any_number(0.0, because="it is only compared")


@pytest.mark.parametrize(
    "fields",
    [{"count": 10**9 + 1}, {"count": -(10**12)}, {"shares": {"a": 1e31}}, {"pairs": [[1, 10**10]]},
     {"widths": {"inner": 10**10}}, {"seed": 2**63}, {"widths": {"share": float("inf")}},
     {"widths": {"share": float("nan")}}, {"shares": {"a": float("inf")}}],
)  # fmt: skip
def test_a_number_without_a_bound_of_its_own_gets_one(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Free.model_validate(fields)
    assert [raw["loc"][0] for raw in caught.value.errors()] == list(fields)


def test_a_field_says_itself_what_its_numbers_may_be() -> None:
    made = Free(count=10**9, seed=2**62, compared=1e300)
    assert (made.seed, made.compared) == (2**62, 1e300)
