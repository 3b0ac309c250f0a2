"""A step is a list of updates: each has the forward of its losses, its groups, its optimizer, and its place in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmflow.data import Batch, scan
from mmflow.identity.keys import Keys
from mmflow.model.model import Model
from mmflow.plugin import Bank, Clock, ComponentError, Encoder, Encoding, Loss, Ref, Source, StageStopped, TensorType
from mmflow.spec import Owner, Spec, load_text
from mmflow.train.settings import Training
from mmflow.train.updates import Moves, Updates


class Reader:
    def __init__(self, size: int) -> None:
        self.rows = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        # A third of the rows has no `some`.
        return {"a": self.rows[index], "some": None if index % 3 == 0 else self.rows[index] + 1}

    def static(self) -> Mapping[str, Any]:
        return {}


class Vectors(Source, name="vectors"):
    """Vectors `a` and `some`, of which a third is absent."""

    size: int = 12

    def fields(self) -> Mapping[str, TensorType]:
        return dict.fromkeys(("a", "some"), TensorType("vector", size=(3,)))

    def open(self) -> Reader:
        return Reader(self.size)


class Matrix(Encoder, name="matrix"):
    """x W, with dropout where `drop` says so."""

    drop: float = 0.0

    def draws(self) -> bool:
        return self.drop > 0

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector")}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        linear = torch.nn.Linear(3, 3, bias=False)
        return torch.nn.Sequential(linear, torch.nn.Dropout(self.drop)) if self.drop else linear


class Square(Loss, name="square"):
    """Mean square of the entries of a row."""

    def compute(self, a: Tensor) -> Tensor:
        return a.square().mean(-1)


class RowSquare(Square, name="row_square"):
    """As `square`, inside the micro-batch."""

    per_row = True


class Against(Loss, name="against"):
    """Mean square of the entries of a row, times what a memory holds."""

    bank: Ref[Bank] | None = None

    def compute(self, a: Tensor, bank: Encoding | None) -> Tensor:
        value = a.square().mean(-1)
        return value if bank is None else value * bank.pooled.mean().to(a.dtype)


class Sum(Loss, name="sum"):
    """Sum of the entries of a row, against another."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1)


SPEC = """
mmflow: 1
data: {{train: vectors}}
encoders:
  x: {{use: matrix, of: a}}
  y: {{use: matrix, of: x}}
  z: {{use: matrix, of: some}}
  slow: {{use: ema, weights: x, momentum: 0.5}}
memories:
  queue: {{use: queue, size: 24, of: y, ready: any}}
losses:
  first: {{use: square, of: x}}
  second: {{use: square, of: y}}
  held: {{use: against, of: x, bank: queue}}
  both: {{use: sum, of: [x, y.detach]}}
  third: {{use: row_square, of: z, weight: 0.3}}
train: {{data: train, steps: 6, batch_size: 12, precision: float64, optimizer: {{use: sgd, lr: 0.1}}, {words}}}
"""


@pytest.fixture
def load_updates(register: Callable[..., None]) -> Callable[..., Spec]:
    register(Vectors, Matrix, Square, RowSquare, Against, Sum)
    return lambda words, *overrides: load_text(SPEC.format(words=words), overrides=overrides)


def prepared(spec: Spec, **changes: Any) -> tuple[Model, Updates, Batch]:
    scope = spec.scope("train")
    declaration = scope.declaration
    assert isinstance(declaration, Training)
    declaration = declaration.model_copy(update=changes)
    model = Model.create(scope, scope.roots(), seed=0).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))
    return model, Updates(declaration, model), batch


def weights(model: Model) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.modules.state_dict().items()}


def values(model: Model, batch: Batch) -> dict[str, Tensor]:
    names = [name for name in "xyz" if Owner("encoders", name) in model.graph.nodes]
    return {name: found.pooled for name, found in model.encode(names, batch).items()}


def run(spec: Spec, steps: int = 1, **changes: Any) -> tuple[dict[str, Tensor], Moves, Model]:
    model, updates, batch = prepared(spec, **changes)
    result = Moves()
    for step in range(steps):
        result = updates.run(batch, Clock(step, 6))
    return weights(model), result, model


def by_hand(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The field `a`, the matrix of `x` and that of `y`."""
    found = dict(model.modules.named_parameters())
    a = batch.columns["fields.a>encoders.x#0"].values
    assert isinstance(a, Tensor)
    return a.double(), found["encoders.x.weight"].detach().clone(), found["encoders.y.weight"].detach().clone()


TWO = "updates: {a: {losses: [first]}, b: {losses: [second]}}"


def test_an_update_runs_with_the_weights_that_the_one_before_left(load_updates: Callable[..., Spec]) -> None:
    model, updates, batch = prepared(load_updates(TWO))
    a, x, y = by_hand(model, batch)
    x.requires_grad_()
    (a @ x.T).square().mean().backward()
    assert x.grad is not None
    x = (x - 0.1 * x.grad).detach().requires_grad_()
    y.requires_grad_()
    (a @ x.T @ y.T).square().mean().backward()
    assert x.grad is not None
    assert y.grad is not None
    result = updates.run(batch, Clock(0, 6))
    after = weights(model)
    torch.testing.assert_close(after["encoders.x.weight"], (x - 0.1 * x.grad).detach())
    torch.testing.assert_close(after["encoders.y.weight"], (y - 0.1 * y.grad).detach())
    assert list(result.moves) == ["a", "b"]
    measured = result.measured()
    assert measured["grad_norm"] == measured["grad_norm/a"] != measured["grad_norm/b"]


def test_an_update_that_reuses_a_forward_takes_its_gradient_there(load_updates: Callable[..., Spec]) -> None:
    """Two updates on one forward are one update of the sum, as long as the optimizer is plain descent."""
    reused = run(load_updates(TWO.replace("[second]", "[second], reuse: a")))[0]
    together = run(load_updates("losses: [first, second]"))[0]
    apart = run(load_updates(TWO))[0]
    for name, value in together.items():
        torch.testing.assert_close(reused[name], value)
    assert not torch.allclose(apart["encoders.y.weight"], together["encoders.y.weight"], rtol=1e-6)


GAN = """groups: {maker: {match: encoders.x}, critic: {match: encoders.y}},
  updates: {maker: {losses: [second], groups: [maker]}, critic: {losses: [both, second], groups: [critic], REUSE}}"""


@pytest.mark.parametrize("reuse", ["reuse: maker", "every: 1"])
def test_an_update_moves_its_groups_alone(load_updates: Callable[..., Spec], reuse: str) -> None:
    spec = load_updates(GAN.replace("REUSE", reuse))
    model, updates, batch = prepared(spec)
    a, x, y = by_hand(model, batch)
    x.requires_grad_()
    (a @ x.T @ y.T).square().mean().backward()
    assert x.grad is not None
    new = (x - 0.1 * x.grad).detach()
    seen = x.detach() if "maker" in reuse else new
    y.requires_grad_()
    (a @ seen.T @ y.T).square().mean().backward()
    assert y.grad is not None
    updates.run(batch, Clock(0, 6))
    after = weights(model)
    torch.testing.assert_close(after["encoders.x.weight"], new)
    torch.testing.assert_close(after["encoders.y.weight"], (y - 0.1 * y.grad).detach())


def test_every_says_how_often_an_update_takes_part(load_updates: Callable[..., Spec]) -> None:
    model, updates, batch = prepared(load_updates(TWO.replace("[second]", "[second], every: 3")))
    moved = []
    for step in range(6):
        before = weights(model)["encoders.y.weight"]
        moved.append(
            (
                list(updates.run(batch, Clock(step, 6)).moves),
                not torch.equal(before, weights(model)["encoders.y.weight"]),
            )
        )
    assert moved == [(["a", "b"], True), (["a"], False), (["a"], False)] * 2


def test_joint_normalization_divides_once_by_all_rows(load_updates: Callable[..., Spec]) -> None:
    """`first` has 12 rows and `third` 8, so that the sums over their rows are divided by 20."""
    words = "updates: {{all: {{losses: [first, third], normalize: {}}}}}"
    model, _, batch = prepared(load_updates(words.format("joint")))
    found = values(model, batch)
    first, third = found["x"].square().mean(1), found["z"].square().mean(1)
    there = batch.columns["fields.some>encoders.z#0"].present
    assert there is not None
    joint = (float(first.sum()) + 0.3 * float(third[there].sum())) / 20
    each = float(first.mean()) + 0.3 * float(third[there].mean())
    for micro in (None, 5):
        for words_of, expected in (("joint", joint), ("each", each)):
            result = run(load_updates(words.format(words_of)), micro_batch_size=micro)[1]
            assert result.numbers()["loss"] == pytest.approx(expected, rel=1e-12)
    norms = {kind: run(load_updates(words.format(kind)))[1].measured()["grad_norm"] for kind in ("joint", "each")}
    assert norms["joint"] != pytest.approx(norms["each"], rel=1e-3)


def test_joint_normalization_of_equal_counts_is_the_mean_of_both(load_updates: Callable[..., Spec]) -> None:
    joint = run(load_updates("updates: {all: {losses: [first, second], normalize: joint}}"))[0]
    halved = run(load_updates("losses: [first, second]", "losses.first.weight=0.5", "losses.second.weight=0.5"))[0]
    for name, value in halved.items():
        torch.testing.assert_close(joint[name], value)


MANY = """micro_batch_size: MICRO,
  groups: {x: {match: encoders.x}, rest: {match: "*", active: {from: {steps: 1}}}, z: {match: encoders.z}},
  updates: {
    a: {losses: [first, third], normalize: joint, optimizer: {use: adamw, lr: 1e-2}},
    b: {losses: [second, third], groups: [rest, z], optimizer: {use: sgd, lr: 0.1, momentum: 0.9}, every: 2},
    c: {losses: [second, both, held], reuse: a, schedule: {use: linear}}}"""


def test_micro_batches_change_no_update(load_updates: Callable[..., Spec]) -> None:
    whole, result, _ = run(load_updates(MANY.replace("MICRO", "12")), steps=4)
    for micro in ("1", "5"):
        found, again, _ = run(load_updates(MANY.replace("MICRO", micro)), steps=4)
        for name, value in whole.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
        assert again.numbers() == pytest.approx(result.numbers(), rel=1e-9)
        assert again.measured() == pytest.approx(result.measured(), rel=1e-9)


@pytest.mark.parametrize(
    "words",
    [
        "updates: {b: {losses: [second]}, a: {losses: [held]}}",
        "updates: {a: {losses: [held]}, b: {losses: [second]}}",
        "updates: {a: {losses: [held]}}",
    ],
)
def test_averages_and_memories_follow_the_last_update(load_updates: Callable[..., Spec], words: str) -> None:
    """The queue holds what the last update with `y` computed, or the last one beside; the average moves at the end."""
    model, updates, batch = prepared(load_updates(words))
    before = weights(model)
    expected = values(model, batch)["y"]
    if words.endswith("b: {losses: [second]}}"):
        # The second update, after the first has moved `x`, is the one that computes `y`.
        other, first, _ = prepared(load_updates("updates: {a: {losses: [held]}}"))
        first.run(batch, Clock(0, 6))
        expected = values(other, batch)["y"]
    updates.run(batch, Clock(0, 6))
    after = weights(model)
    ((_, held),) = model.memories.items()
    rows = next(value for value in held.values() if value.shape == (24, 3))
    torch.testing.assert_close(rows[:12], expected.to(rows.dtype), rtol=1e-6, atol=1e-6)
    mean = (before["encoders.x.weight"] + after["encoders.x.weight"]) / 2
    torch.testing.assert_close(after["encoders.slow.weight"], mean)


def test_a_resting_group_keeps_the_state_of_its_optimizer(load_updates: Callable[..., Spec]) -> None:
    """Adam's moments do not gather while a group rests, so that its first step is that of a fresh optimizer."""
    words = "losses: [first], groups: {{x: {{match: encoders.x, active: {{from: {{steps: {}}}}}}}}}"
    late, _, _ = run(load_updates(words.format(3), "train.optimizer={use: adamw, lr: 0.1}"), steps=4)
    fresh, _, _ = run(load_updates(words.format(0), "train.optimizer={use: adamw, lr: 0.1}"), steps=1)
    torch.testing.assert_close(late["encoders.x.weight"], fresh["encoders.x.weight"], rtol=0, atol=0)


def test_updates_draw_apart(load_updates: Callable[..., Spec]) -> None:
    """Each update drops other entries; one that the spec does not name draws as a step always has."""
    same = "updates: {a: {losses: [first]}, b: {losses: [first]}}"
    _, updates, batch = prepared(load_updates(same, "encoders.x.drop=0.5", "train.optimizer.lr=0"))
    seen = []
    for _ in range(2):
        steps = [updates._step([name], frozenset()) for name in ("a", "b")]
        seen.append([float(step.forward(batch, Clock(0, 6)).result.losses["first"]) for step in steps])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stopped_run_with_updates_goes_on_with_the_same_bits(
    load_updates: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path, stop_after: int
) -> None:
    words = MANY.replace("MICRO", "5")
    spec = load_updates(words, "encoders.x.drop=0.2", "train.log_every=1")
    whole = context(spec, tmp_path / "whole").run()
    with pytest.raises(StageStopped):
        context(spec, tmp_path / "parts", stop_after=stop_after).run()
    parts = context(spec, tmp_path / "parts").run()
    one, two = (load_file(output / "model" / "model.safetensors") for output in (whole, parts))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_order_of_updates_and_groups_is_part_of_the_key(load_updates: Callable[..., Spec]) -> None:
    def key(words: str) -> str:
        return Keys(load_updates(words)).stage("train")

    assert key(TWO) == key(TWO)
    assert key(TWO) != key("updates: {b: {losses: [second]}, a: {losses: [first]}}")
    one, two = "a: {match: encoders.x, lr: 0.1}", "b: {match: '*'}"
    assert key(f"groups: {{{one}, {two}}}") != key(f"groups: {{{two}, {one}}}")


def test_an_update_that_trains_nothing_is_refused(load_updates: Callable[..., Spec]) -> None:
    spec = load_updates(
        "groups: {x: {match: encoders.x}, z: {match: encoders.z}}, "
        "updates: {a: {losses: [first], groups: [z]}, b: {losses: [third, first], groups: [x]}}"
    )
    with pytest.raises(ComponentError, match="update a: its losses reach nothing that it moves"):
        prepared(spec)
