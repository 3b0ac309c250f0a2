"""Schedules: exact values at the places that people check."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_optim.schedules.cosine import Cosine
from mmflow_optim.schedules.linear import Linear
from mmflow_optim.schedules.step import Step
from pydantic import ValidationError

from mmflow.plugin import Clock, Value


def path(schedule: Value, steps: int) -> list[float]:
    return [schedule.at(Clock(step, steps)) for step in range(steps + 1)]


def test_cosine_without_warmup() -> None:
    found = path(Cosine(), 4)
    assert found == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0])


def test_warmup_as_a_fraction_and_as_steps_are_the_same() -> None:
    assert path(Cosine(warmup=0.25), 16) == path(Cosine(warmup=4), 16)
    assert path(Cosine(warmup=4), 16)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_serves_a_momentum_that_rises() -> None:
    found = path(Cosine(initial=0.996, final=1.0), 10)
    assert found[0] == pytest.approx(0.996)
    assert found[-1] == pytest.approx(1.0)
    assert found == sorted(found)


def test_linear_and_step() -> None:
    assert path(Linear(initial=2.0, final=1.0), 4) == pytest.approx([2, 1.75, 1.5, 1.25, 1])
    assert path(Step(places=(0.5, 3)), 4) == pytest.approx([1, 1, 0.1, 0.01, 0.01])


@given(st.sampled_from([Cosine, Linear]), st.floats(0, 0.99) | st.integers(1, 50), st.integers(1, 40), st.floats(0, 1))
def test_values_stay_between_zero_and_the_ends(kind: type[Value], warmup: float, steps: int, final: float) -> None:
    schedule = kind.model_validate({"warmup": warmup, "final": final})
    assert all(0 <= value <= 1 + 1e-12 for value in path(schedule, steps))


def test_the_first_step_of_a_warmup_already_moves() -> None:
    assert Cosine(warmup=10).at(Clock(0, 100)) > 0


def test_a_negative_warmup_is_refused() -> None:
    with pytest.raises(ValidationError):
        Cosine(warmup=-1)
