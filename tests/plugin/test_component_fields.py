"""A component field takes a name, a mapping, a path or an instance, at any depth, and refuses the rest clearly."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from mmflow.plugin import Bounds, Component, Constant, Labels, Learned, Loss, Ref, Refs, Score, Shared, Value, default
from mmflow.plugin.marks import in_identity, outside_identity
from mmflow.plugin.references import RefType, reference_fields


class Example(Loss, name="example"):
    """A loss with a field of every sort."""

    power: float = 2.0
    score: Score = default("cosine")
    scores: list[Score] = []
    named: dict[str, Score] = {}
    temperature: Annotated[Value, Bounds(gt=0)] = default(0.07)
    labels: Ref[Labels] = default("label")
    others: Refs[Labels] = ()
    processes: int = outside_identity(1)


def errors(**fields: Any) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(fields)
    return [(e["loc"], e["msg"]) for e in caught.value.errors()]


def test_a_name_a_mapping_and_an_instance_give_equal_components() -> None:
    by_name = Example.model_validate({"score": "dot"})
    by_mapping = Example.model_validate({"score": {"use": "dot"}})
    assert by_name == by_mapping == Example.model_validate({"score": by_name.score})


def test_kinds_are_resolved_at_any_depth() -> None:
    example = Example.model_validate({"scores": ["cosine", {"use": "maxsim"}], "named": {"late": {"use": "maxsim"}}})
    assert [s.use for s in example.scores] == ["cosine", "maxsim"]
    assert example.named["late"].use == "maxsim"


def test_a_dotted_path_is_that_very_component() -> None:
    assert Example.model_validate({"score": "parts.late"}).score == Shared("parts.late")


def test_a_declaration_is_read_back_equal() -> None:
    example = Example.model_validate(
        {"of": "image", "score": "parts.late", "scores": ["dot"], "temperature": {"use": "learned", "init": 0.1}}
    )
    declared = example.declared()
    assert declared.pop("use") == "example"
    assert Example.model_validate(declared) == example


def test_numbers_are_values() -> None:
    assert Example.model_validate({"temperature": 1}).temperature == Constant(value=1.0)
    learned = Example.model_validate({"temperature": {"use": "learned", "init": 0.1, "min": 0.01}}).temperature
    assert isinstance(learned, Learned)
    assert learned.exponential
    assert not Learned(init=-10.0).exponential


@pytest.mark.parametrize("number", [0, -1.0])
def test_a_constant_out_of_range_is_refused(number: float) -> None:
    assert errors(temperature=number) == [(("temperature",), "out of range")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(number: float) -> None:
    assert [message for _, message in errors(temperature=number)] == ["Input should be a finite number"]
    assert [message for _, message in errors(power=number)] == ["Input should be a finite number"]


def test_every_mistake_is_reported_at_once_under_its_path() -> None:
    found = dict(errors(score="nope", named={"a": {"use": "maxsim", "typo": 1}}, labels=3, power="x", extra=1))
    assert set(found) == {("score",), ("named", "a", "typo"), ("labels",), ("power",), ("extra",)}
    assert found["score",] == "unknown score 'nope'"


@pytest.mark.parametrize("raw", [3, True, None, ["cosine"], {"use": ["cosine"]}, {"use": 1}, {}, {"typo": 1}])
def test_what_is_no_component_is_refused_without_a_traceback(raw: Any) -> None:
    assert [location for location, _ in errors(score=raw)] == [("score",)]


def test_a_component_of_another_kind_is_refused() -> None:
    assert errors(score={"use": "infonce"})[0][0] == ("score",)
    assert errors(score=Learned(init=0.1))[0][1] == "a value stands where a score belongs"


@pytest.mark.parametrize("raw", ["", ".", "a.", ".a", "a b", "view[1]", "1", 1, None, ["a"]])
def test_a_reference_is_a_dotted_name(raw: Any) -> None:
    assert errors(labels=raw)[0][0] == ("labels",)


def test_one_reference_or_a_list() -> None:
    assert Example.model_validate({"others": "a"}).others == ("a",)
    assert Example.model_validate({"others": ["a", "b.1"]}).others == ("a", "b.1")


def test_reference_fields_are_found_with_their_types() -> None:
    types = reference_fields(Example)
    assert set(types) == {"of", "rows", "labels", "others"}
    assert types["labels"] == (Labels,)
    assert all(issubclass(t, RefType) for t in types["of"])


def test_a_field_may_be_outside_a_components_identity() -> None:
    outside = [name for name in Example.model_fields if not in_identity(Example, name)]
    assert outside == ["processes"]
    assert Example(processes=1).declared() != Example(processes=8).declared()


def test_declarations_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Example().power = 1.0  # type: ignore[misc]


def test_a_learned_value_starts_inside_its_bounds() -> None:
    with pytest.raises(ValidationError, match="outside its bounds"):
        Learned(init=0.001, min=0.01)
    with pytest.raises(ValidationError, match="positive init"):
        Learned(init=-1.0, exp=True)


def test_a_plugin_may_open_a_kind() -> None:
    class Decoding(Component, kind="decoding"):
        """A kind of a plugin's own."""

    class Greedy(Decoding, name="greedy"):
        """Its component."""

    class Host(Component, name="host"):
        decode: Decoding

    assert Host(decode=Greedy()).declared()["decode"] == {"use": "greedy"}
    with pytest.raises(ValidationError):
        Host.model_validate({"decode": "cosine"})
