"""Who may hold a service: stages and evaluators in their fields, and components inside these; none asks twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_spec
from mmflow.plugin import (
    Component,
    EvaluationResult,
    Evaluator,
    Metric,
    Service,
    Stage,
    StageContext,
)
from mmflow.spec import load_text

ASKED: list[Mapping[str, Any]] = []
SPEC = """
mmflow: 1
data: {rows: {use: shapes, size: 4, pixels: 16}}
parts:
  oracle: {use: oracle, tone: loud}
  proposer: {use: proposing, service: parts.oracle}
stages:
  own: {use: proposed, propose: {use: proposing, service: {use: oracle, tone: loud}}}
  shared: {use: proposed, propose: parts.proposer}
eval:
  judged: {use: judged, data: rows, judge: parts.oracle}
"""


class Oracle(Service, name="oracle"):
    """Counts its requests."""

    tone: str = "calm"

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        ASKED.append(request)
        return {"text": f"{request['prompt']}, {self.tone}"} if request["prompt"] != "nothing" else None  # pyright: ignore[reportReturnType]


class Proposal(Component, kind="proposal"):
    """A kind of a plugin's own."""


class Proposing(Proposal, name="proposing"):
    """Proposes by a service."""

    service: Service


class Proposed(Stage, name="proposed"):
    """Asks through the component inside."""

    gives = {"found": "Files"}
    propose: Proposal

    def run(self, context: StageContext) -> None:
        asked = [context.service("propose", "service").ask({"prompt": text}) for text in ("a", "b", "a")]
        (context.write_files("found") / "found.json").write_text(json.dumps(asked))


class Judged(Evaluator, name="judged"):
    """Asks its judge."""

    judge: Service
    prompt: str = "a"

    def evaluate(self, judge: Service, prompt: str) -> EvaluationResult:
        return EvaluationResult([Metric("length", float(len(judge.ask({"prompt": prompt})["text"])))])


@pytest.fixture
def run(tmp_path: Path, register: Callable[..., None]) -> Callable[..., RunOutcome]:
    register(Oracle, Proposing, Proposed, Judged)
    ASKED.clear()

    def run(*overrides: str, offline: bool = False) -> RunOutcome:
        options = RunOptions(str(tmp_path), engine="local", device="cpu", offline=offline)
        return run_spec(load_text(SPEC, overrides=overrides), options)

    return run


def found(outcome: RunOutcome, stage: str, store: Path) -> list[str]:
    folder = open_store(str(store)).fetch(outcome.plan[stage].key)
    return [answer["text"] for answer in json.loads((folder / "files" / "found" / "found.json").read_text())]


def test_components_inside_stages_and_evaluators_ask_through_the_store(
    run: Callable[..., RunOutcome], tmp_path: Path
) -> None:
    outcome = run()
    assert outcome.exit_code == 0, outcome.outcome.notes
    for stage in ("own", "shared"):
        assert found(outcome, stage, tmp_path) == ["a, loud", "b, loud", "a, loud"]
    assert outcome.metrics["judged"][0]["value"] == len("a, loud")
    # The same service wherever it is written: each request once.
    assert [request["prompt"] for request in ASKED] == ["a", "b"]
    assert run("eval.judged.prompt=b", offline=True).exit_code == 0
    missing = run("parts.oracle.tone=calm", offline=True)
    assert missing.outcome.stages["own"] == "cached"
    assert missing.outcome.stages["shared"] == "failed"
    assert 'the service parts.oracle has no recorded answer to {"prompt": "a"}' in missing.outcome.notes[0]


def test_an_answer_that_is_none_is_told_with_the_service(run: Callable[..., RunOutcome]) -> None:
    outcome = run("eval.judged.prompt=nothing")
    assert outcome.outcome.stages["judged"] == "failed"
    assert "the service parts.oracle (oracle) answered NoneType, no mapping" in outcome.outcome.notes[0]


def test_a_revision_asks_again(run: Callable[..., RunOutcome], monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(Oracle, "revision", 2)
    run("eval.judged.batch_size=7", "stages.shared.propose={use: proposing, service: {use: oracle, tone: other}}")
    assert [request["prompt"] for request in ASKED] == ["a", "b", "a", "b"]
