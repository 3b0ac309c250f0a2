"""What `check` accepts about the arguments of a method, a run binds: one table over every kind and every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import BatchValue, Clock, ComponentError, Encoder, EvaluationResult, Evaluator, Loss, Memory, Metric
from mmflow.plugin.binding import REQUESTS, RULES, binding
from mmflow.spec import SpecError, load_text

SEEN: dict[str, Any] = {}
RESULTS = (EvaluationResult, Metric)
"""Named by the sources below."""

KINDS: Mapping[str, str] = {
    "encoder": """
class Asks{title}(Encoder, name="encoder_{request}"):
    def scope(self):
        return "batch"

    def outputs(self, *inputs):
        return {{"pooled": inputs[0]}}

    def apply(self, a, {request}):
        SEEN["encoder"] = {request}
        return a
""",
    "loss": """
class Asks{title}(Loss, name="loss_{request}"):
    def compute(self, a, {request}):
        SEEN["loss"] = {request}
        return a.square().mean(-1)
""",
    "row loss": """
class Asks{title}(Loss, name="row_loss_{request}"):
    per_row = True

    def compute(self, a, {request}):
        SEEN["row loss"] = {request}
        return a.square().mean(-1)
""",
    "memory": """
class Asks{title}(Memory, name="memory_{request}"):
    def initial(self, columns, *, generator):
        return {{"sum": torch.zeros(())}}

    def update(self, state, columns, {request}):
        SEEN["memory"] = {request}
        return {{"sum": state["sum"] + columns["value"].sum()}}

    def read(self, state):
        return None
""",
    "stage": """
class Asks{title}(Evaluator, name="stage_{request}"):
    def evaluate(self, a, {request}):
        SEEN["stage"] = {request}
        return EvaluationResult([Metric("rows", len(a))])
""",
}
MADE: dict[tuple[str, str], type] = {}
for _kind, _source in KINDS.items():
    for _request in REQUESTS:
        _title = f"{_kind.title().replace(' ', '')}{_request.title().replace('_', '')}"
        exec(_source.format(title=_title, request=_request), globals())
        MADE[_kind, _request] = globals()[f"Asks{_title}"]

ARRIVES: Mapping[str, Callable[[Any], bool]] = {
    "clock": lambda clock: isinstance(clock, Clock) and clock.steps == 1,
    "generator": lambda generator: isinstance(generator, torch.Generator),
    "ids": lambda ids: len(ids) == 8 and all(isinstance(one, str) for one in ids),
    "model": lambda model: callable(model.encode),
    "present": lambda present: present is None,
    "step": lambda step: step == 0,
    "texts_of": lambda texts: texts == (None,),
}


def spec(kind: str, request: str) -> str:
    use = f"{kind.replace(' ', '_')}_{request}"
    lines = [
        "mmflow: 1",
        "data: {d: {use: shapes, size: 8, pixels: 16}}",
        "encoders:",
        "  x: {use: convnet4, of: image, width: 4, head: {use: linear, dim: 4}}",
        f"  y: {{use: {use if kind == 'encoder' else 'l2norm'}, of: x}}",
        "losses:",
        f"  l: {{use: {use if kind in ('loss', 'row loss') else 'uniformity'}, of: y}}",
    ]
    if kind == "memory":
        lines += ["  m: {use: infonce, of: [x, y], negatives: kept}", f"memories: {{kept: {{use: {use}, of: y}}}}"]
    lines.append("train: {data: d, steps: 1, batch_size: 8, sampler: {use: sequential}}")
    if kind == "stage":
        lines.append(f"eval: {{e: {{use: {use}, data: d, of: x}}}}")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "request_"), list(MADE))
def test_a_request_is_refused_by_check_or_delivered_by_the_run(
    kind: str, request_: str, register: Callable[..., None], tmp_path: Path
) -> None:
    rule = "loss" if kind == "row loss" else kind
    allowed = request_ in RULES[rule].requests
    register(MADE[kind, request_])
    SEEN.clear()
    if not allowed:
        with pytest.raises(SpecError, match=f"asks for `{request_}`"):
            load_text(spec(kind, request_))
        return
    result = run_spec(load_text(spec(kind, request_)), RunOptions(store=str(tmp_path), engine="local"))
    assert result.exit_code == 0
    assert ARRIVES[request_](SEEN[kind]), SEEN


class Mixed(Loss, name="mixed"):
    power: float = 2.0
    scale: float = 3.0

    def compute(self, power: float, a: str, b: str = "none", *, scale: float) -> tuple[float, str, str, float]:
        return power, a, b, scale


class Many(Loss, name="many"):
    scale: float = 3.0

    def compute(self, first: str, *rest: str, scale: float) -> tuple[str, tuple[str, ...], float]:
        return first, rest, scale


def called(loss: Loss, *of: str) -> object:
    return binding(loss, count=len(of)).call(loss.compute, of, lambda name: getattr(loss, name), lambda _: None)


def test_fields_by_name_and_inputs_in_order_wherever_they_stand() -> None:
    assert called(Mixed(), "x", "y") == (2.0, "x", "y", 3.0)
    assert called(Mixed(), "x") == (2.0, "x", "none", 3.0)
    assert called(Many(), "x", "y", "z") == ("x", ("y", "z"), 3.0)


@pytest.mark.parametrize(
    ("loss", "count", "misfit"),
    [
        (Mixed(), 0, "1 to 2 inputs (a, b)"),
        (Mixed(), 2, None),
        (Mixed(), 3, "1 to 2 inputs (a, b)"),
        (Many(), 0, "1 or more inputs (first)"),
        (Many(), 5, None),
    ],
)
def test_the_number_of_inputs(loss: Loss, count: int, misfit: str | None) -> None:
    assert binding(loss, count=count).misfit(count) == misfit


class Words(Encoder, name="words"):
    """Its inputs have the names of a field and of a request."""

    def apply(self, tokens: str, ids: str, init: str | None) -> tuple[str, str, str | None]:
        return tokens, ids, init


def test_inputs_of_an_encoder_come_first_whatever_their_names() -> None:
    bound = binding(Words(), count=2)
    assert (bound.inputs, bound.fields, bound.requests) == (("tokens", "ids"), ("init",), ())
    assert bound.call(Words().apply, ("a", "b"), lambda _: None, lambda _: None) == ("a", "b", None)
    with pytest.raises(ComponentError, match="asks for `ids`, which an encoder does not get"):
        binding(Words(), count=1)


def test_the_kinds_of_the_table_are_those_that_are_called_by_name() -> None:
    kinds = {made.kind for made in (BatchValue, Encoder, Loss, Memory, Evaluator) if made.method}
    assert kinds == set(RULES)
    assert all(rule.requests <= set(REQUESTS) for rule in RULES.values())
