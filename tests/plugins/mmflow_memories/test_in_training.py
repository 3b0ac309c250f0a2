"""Memories in the real training step: equal for any micro-batch, read before and after, the same after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmflow.artifacts import ModelArtifact
from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.model.shapes import check_shapes
from mmflow.plugin import Clock, StageStopped
from mmflow.plugin.targets import Owner
from mmflow.spec import Spec, load_text
from mmflow.spec.text.problems import SpecError
from mmflow.train.step import Step
from tests.train.conftest import Context

SPEC = """
mmflow: 1
name: memories
data:
  train: {use: digits, split: test}
encoders:
  z: {use: convnet4, of: image, width: 4, norm: group, head: {use: linear, dim: 4}}
  size: {use: linear, of: z, dim: 1}
  own: {use: recall, of: [id, bank.z], ids: bank.id}
  new: {use: recall, of: [id, bank.z.after], ids: bank.id.after}
  usual: {use: recall, of: [id, seen.size], ids: seen.id}
memories:
  queue: {use: queue, size: 40, of: {z: z, id: id}}
  bank: {use: bank, size: 400, of: {z: z, label: label}, momentum: 0.5, in_memory: 4096}
  classes: {use: prototypes, count: 10, of: z, labels: label, momentum: 0.9}
  clusters: {use: prototypes, count: 5, of: z, start: kmeans, start_rows: 30}
  seen: {use: statistics, size: 400, of: {size: size}}
losses:
  old: {use: mse, of: [z, own], rows: own.known}
  fresh: {use: mse, of: [z, new], rows: new.known}
  usual: {use: mse, of: [size, usual], rows: usual.known}
  far: {use: infonce, of: [z, z], negatives: queue.z, weight: 0.1}
  near: {use: infonce, of: [z, z], negatives: classes, weight: 0.1}
  other: {use: infonce, of: [z, z], negatives: clusters.after, weight: 0.1}
train: {data: train, epochs: 2, batch_size: 150, optimizer: {use: sgd, lr: 0.01}}
"""


def spec(*overrides: str) -> Spec:
    return load_text(SPEC, overrides=overrides)


def run(made: Spec, micro: int | None, steps: int = 3) -> tuple[list[dict[str, float]], dict[Owner, Any], list[Any]]:
    """Three steps over the same 21 rows: the losses of each, the memories at the end, and the last gradients."""
    scope = made.scope("train")
    model = Model.create(scope, scope.roots(), seed=0).to("cpu", torch.float64)
    batch = next(iter(scan(made.data["train"], scope.views, model.requests(), batch_size=21)))
    step, numbers = Step(model, micro_batch_size=micro), []
    for number in range(steps):
        model.root.zero_grad()
        result = step.run(batch, Clock(number, steps))
        model.remember(result.memories)
        numbers.append(result.numbers())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * (parameter.grad if parameter.grad is not None else 0)
    return numbers, model.memories, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("micro", [1, 7])
def test_micro_batches_change_nothing(micro: int) -> None:
    numbers, memories, gradients = run(spec(), None)
    again, remembered, found = run(spec(), micro)
    for one, other in zip(numbers, again, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    for owner, state in memories.items():
        for name, value in state.items():
            torch.testing.assert_close(remembered[owner][name], value)
    for one, other in zip(gradients, found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_bank_on_the_disk_changes_nothing() -> None:
    numbers, memories, _ = run(spec(), 7)
    again, remembered, _ = run(spec("memories.bank.in_memory=0"), 7)
    for one, other in zip(numbers, again, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    for name, value in memories[Owner("memories", "bank")].items():
        torch.testing.assert_close(remembered[Owner("memories", "bank")][name], value)


def test_rows_are_those_of_the_step_before_and_of_this_one() -> None:
    """In the first step nothing is known, and the new row is the vector itself; later it is half of the old one."""
    numbers, _, _ = run(spec(), None)
    assert "loss/old" not in numbers[0] or numbers[0]["loss/old"] == 0
    assert numbers[0]["loss/fresh"] == pytest.approx(0, abs=1e-12)
    assert numbers[1]["loss/fresh"] == pytest.approx(numbers[1]["loss/old"] / 4)
    assert numbers[1]["loss/old"] > 0
    assert numbers[1]["loss/usual"] > 0


def test_the_shapes_are_known_before() -> None:
    report = check_shapes(spec())
    assert [str(problem) for problem in report.problems] == []
    assert report.untraced == []


@pytest.mark.parametrize("disk", [4096, 0])
def test_a_restart_changes_nothing(tmp_path: Path, disk: int) -> None:
    made = spec(f"memories.bank.in_memory={disk}")
    whole = Context(made, tmp_path / "whole").run()
    with pytest.raises(StageStopped):
        Context(made, tmp_path / "cut", stop_after=3).run()
    again = Context(made, tmp_path / "cut").run()
    one, other = ModelArtifact(whole), ModelArtifact(again)
    for owner, state in one.memories().items():
        for name, value in state.items():
            assert torch.equal(other.memories()[owner][name], value), (owner, name)
    for name, value in one.weights().items():
        assert torch.equal(other.weights()[name], value), name


def test_a_warm_queue_is_full_before_the_first_step(tmp_path: Path) -> None:
    """Its rows are other than those of the first steps, and neither weights nor the order of the steps move."""
    only = ["losses={far: {use: infonce, of: [z, z], negatives: queue.z}}", "memories.queue.size=200"]
    cold, hot = spec(*only), spec(*only, "memories.queue.fill=warm")
    context = Context(hot, tmp_path / "hot")
    notes: list[str] = []
    context.note = notes.append  # type: ignore[method-assign]
    run = ModelArtifact(context.run())
    assert "filled memories.queue with 2 batches" in notes
    other = ModelArtifact(Context(cold, tmp_path / "cold").run())
    assert run.memories()["memories.queue"]["filled"] == 200
    # Both end with the same samples in it: the order of the steps is that of a run without.
    ids = [set(one.memories()["memories.queue"]["column.id"].tolist()) for one in (run, other)]
    assert len(ids[0]) == len(ids[1]) == 200
    assert ids[0] == ids[1]


def test_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(SpecError, match="densty"):
        spec("losses.near={use: mse, of: [z, z], rows: classes.densty}")


@pytest.fixture(autouse=True)
def one_thread() -> Callable[[], None]:
    torch.set_num_threads(1)
    return lambda: None
