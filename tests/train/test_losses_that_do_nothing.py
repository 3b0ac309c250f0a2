"""Losses that take part in no step are told, and a stage in which nothing trains is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.plugin import Bank, Clock, ComponentError, Encoding, Loss, Ref, Refs, StageStopped, Transform
from mmflow.plugin.references import RefMap
from mmflow.spec import Spec
from mmflow.train.step import Step

SPEC = """
mmflow: 1
name: losses
data:
  train: {use: digits, split: train}
encoders:
  x: {use: convnet4, of: image, width: 4, norm: group, head: {use: linear, dim: 10}}
  y: {use: linear, of: x, dim: 10}
memories:
  near: {use: queue, size: 8, of: x, ready: any}
  far: {use: queue, size: 5000, of: x, ready: full}
losses:
  main: {use: mse, of: [x, y]}
train: {data: train, steps: 3, batch_size: 12}
"""

Run = Callable[..., Any]


class Always(Transform, name="always"):
    """The same number for every row."""

    value: int = -1

    def apply(self, value: Any, generator: Any) -> Any:
        return self.value


class Several(Loss, name="several"):
    """How many banks are ready, as a value."""

    banks: Refs[Bank] = ()

    def compute(self, a: Tensor, banks: Sequence[Encoding]) -> Tensor:
        return a.sum() * 0 + len(banks)


class Named(Loss, name="named"):
    """As `several`, with names."""

    banks: RefMap[Bank] = {}

    def compute(self, a: Tensor, banks: dict[str, Encoding]) -> Tensor:
        return a.sum() * 0 + len(banks)


class Needs(Loss, name="needs"):
    """Cannot do without its bank."""

    bank: Ref[Bank]

    def compute(self, a: Tensor, bank: Encoding) -> Tensor:
        return a.sum()


@pytest.fixture
def spec(load: Callable[..., Spec], register: Callable[..., None]) -> Callable[..., Spec]:
    register(Always, Several, Named, Needs)
    return lambda *overrides: load(SPEC, *overrides)


@pytest.mark.parametrize(
    ("loss", "seen"),
    [
        ("{use: several, of: x}", [0, 0, 0]),
        ("{use: several, of: x, banks: [near, far]}", [0, 1, 1]),
        ("{use: several, of: x, banks: [far, near.after]}", [1, 1, 1]),
        ("{use: named, of: x}", [0, 0, 0]),
        ("{use: named, of: x, banks: {one: near, two: far}}", [0, 1, 1]),
    ],
)
def test_a_list_of_memories_may_be_empty_or_not_ready(spec: Callable[..., Spec], loss: str, seen: list[int]) -> None:
    loaded = spec(f"losses.l={loss}")
    scope = loaded.scope("train")
    model = Model.create(scope, scope.roots(), seed=0)
    batch = next(iter(scan(loaded.data["train"], scope.views, model.requests(), batch_size=12)))
    step, values = Step(model, micro_batch_size=5), []
    for number in range(3):
        result = step.run(batch, Clock(number, 3))
        model.remember(result.memories)
        values.append(int(result.losses["l"]))
    assert values == seen


@pytest.mark.parametrize(
    "loss",
    [
        "{use: needs, of: x, bank: far}",
        "{use: mse, of: [x, y], active: {from: {steps: 50}}}",
        "{use: mse, of: [x, y], rows: zero}",
        "{use: cross_entropy, of: y, labels: none}",
    ],
)
def test_a_loss_that_took_part_in_no_step_is_told(
    spec: Callable[..., Spec], context: Run, tmp_path: Path, loss: str
) -> None:
    # A number that no image has stands for labels and weights that are not there.
    views = ["views.zero={of: label, apply: [{use: always, value: 0}]}", "views.none={of: label, apply: [always]}"]
    stage = context(spec(*views, f"losses.idle={loss}"), tmp_path)
    stage.run()
    assert [note for note in stage.notes if "losses.idle took part in no step" in note]
    assert not [note for note in stage.notes if "losses.main took" in note]


@pytest.mark.parametrize(
    "loss", ["{use: needs, of: x, bank: far}", "{use: mse, of: [x, y], active: {from: {epochs: 5}}}"]
)
def test_a_stage_whose_losses_never_take_part_fails(
    spec: Callable[..., Spec], context: Run, tmp_path: Path, loss: str
) -> None:
    with pytest.raises(ComponentError, match="no loss took part in any of 3 steps: main"):
        context(spec("losses.main=null", f"losses.main={loss}"), tmp_path).run()


@pytest.mark.parametrize("loss", ["{use: mse, of: [x.detach, y.detach]}", "{use: mse, of: [x, x]}"])
def test_a_stage_in_which_nothing_can_train_fails(
    spec: Callable[..., Spec], context: Run, tmp_path: Path, loss: str
) -> None:
    freeze = ["encoders.x.freeze=true"] if loss.endswith("[x, x]}") else []
    with pytest.raises(ComponentError, match=r"nothing (to train|trained)"):
        context(spec(f"losses.main={loss}", *freeze), tmp_path).run()


def test_what_was_told_survives_a_stop(spec: Callable[..., Spec], context: Run, tmp_path: Path) -> None:
    """The loss takes part in the first step only, and the run is stopped after it."""
    loaded = spec("losses.early={use: mse, of: [x, y], active: {until: {steps: 1}}}")
    with pytest.raises(StageStopped):
        context(loaded, tmp_path, stop_after=1).run()
    stage = context(loaded, tmp_path)
    stage.run()
    assert not [note for note in stage.notes if "took part in no step" in note]
