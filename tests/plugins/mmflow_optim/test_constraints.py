"""Projections of weights against their definitions, and as a spec uses them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmflow_optim.constraints.bounds import WithinBounds
from mmflow_optim.constraints.orthogonal import Orthogonal
from mmflow_optim.constraints.simplex_rows import SimplexRows
from mmflow_optim.constraints.unit_rows import UnitRows
from scipy.linalg import polar
from torch import Tensor

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.plugin import Clock, ComponentError
from mmflow.spec import Spec, load_text
from mmflow.train.settings import Training
from mmflow.train.updates import Updates


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_unit_rows_keep_their_direction() -> None:
    x = drawn(5, 3)
    x[2] = 0
    found = UnitRows().project(x)
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([1, 1, 0, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(found * x.norm(dim=1, keepdim=True), x)


def test_the_nearest_point_of_the_simplex() -> None:
    x = 2 * drawn(4, 3)
    steps = torch.linspace(0, 1, 201, dtype=torch.float64)
    first, second = torch.meshgrid(steps, steps, indexing="ij")
    every = torch.stack([first, second, 1 - first - second], dim=-1).flatten(0, 1)
    every = every[every[:, 2] >= -1e-12]
    distances = (x[:, None] - every).norm(dim=-1)
    found = SimplexRows().project(x)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64))
    assert ((x - found).norm(dim=-1) <= distances.amin(1) + 1e-9).all()
    torch.testing.assert_close(SimplexRows().project(found), found)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (3, 2, 2, 2)])
def test_the_nearest_orthogonal_matrix_is_the_polar_factor(shape: tuple[int, ...]) -> None:
    x = drawn(*shape)
    found = Orthogonal().project(x)
    assert found.shape == x.shape
    matrix = x.flatten(1).numpy()
    wide = matrix.shape[0] < matrix.shape[1]
    factor, _ = polar(matrix.T if wide else matrix)
    np.testing.assert_allclose(found.flatten(1).numpy(), factor.T if wide else factor, atol=1e-12)


def test_bounds_on_one_side_or_both() -> None:
    x = torch.tensor([-2.0, 0.5, 2.0])
    assert WithinBounds(min=-1, max=1).project(x).tolist() == [-1.0, 0.5, 1.0]
    assert WithinBounds(min=0).project(x).tolist() == [0.0, 0.5, 2.0]
    with pytest.raises(ValueError, match="give `min`, `max` or both"):
        WithinBounds()
    with pytest.raises(ValueError, match="min 2 lies above max 1"):
        WithinBounds(min=2, max=1)


SPEC = """
mmflow: 1
data: {{train: {{use: digits, split: train}}}}
encoders:
  image: {{use: convnet4, of: image, width: 4, norm: group}}
  low: {{use: mlp, of: image, dims: [6, 5], constrain: {constrain}}}
  again: {{use: copy, weights: low, of: image}}
  guess: {{use: linear, of: low, dim: 10, head: {{use: linear, dim: 10, constrain: [{{use: bounds, min: 0}}]}}}}
losses:
  one: {{use: cross_entropy, of: guess, labels: label}}
  two: {{use: mse, of: [low, again]}}
train: {{data: train, steps: 3, batch_size: 16, optimizer: {{use: adamw, lr: 0.1}}{words}}}
"""


def trained(spec: Spec, steps: int) -> dict[str, Tensor]:
    scope = spec.scope("train")
    assert isinstance(scope.declaration, Training)
    model = Model.create(scope, scope.roots(), seed=0)
    updates = Updates(scope.declaration, model)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=16)))
    for step in range(steps):
        updates.run(batch, Clock(step, 3))
    return {name: parameter.detach() for name, parameter in model.modules.named_parameters()}


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_weights_stay_there_from_the_start_and_after_each_step(steps: int) -> None:
    weights = trained(load_text(SPEC.format(constrain="unit_rows", words="")), steps)
    rows = [value for name, value in weights.items() if name.startswith("encoders.low.") and value.ndim == 2]
    rows += [value for name, value in weights.items() if name.startswith("encoders.again.") and value.ndim == 2]
    assert len(rows) == 4
    for value in rows:
        torch.testing.assert_close(value.norm(dim=1), torch.ones(len(value)))
    head = [value for name, value in weights.items() if name.startswith("encoders.guess.head.")]
    assert head
    assert all(bool((value >= 0).all()) for value in head)
    body = [value for name, value in weights.items() if name.startswith("encoders.guess.") and ".head." not in name]
    assert any(bool((value < 0).any()) for value in body), "the constraint of the head is the head's alone"


def test_match_chooses_parameters_and_several_go_in_order() -> None:
    chosen = '[{use: bounds, min: 0, match: "linears.0.*"}, {use: unit_rows, match: "linears.0.weight"}]'
    weights = trained(load_text(SPEC.format(constrain=chosen, words="")), 2)
    names = sorted(name for name in weights if name.startswith("encoders.low."))
    first = [name for name in names if bool((weights[name] >= 0).all())]
    assert first == [name for name in names if name.startswith("encoders.low.linears.0.")], names
    torch.testing.assert_close(weights["encoders.low.linears.0.weight"].norm(dim=1), torch.ones(6))


def test_a_group_that_rests_is_not_projected_again() -> None:
    """Projecting a unit vector again may change its last bit."""
    words = ', groups: {a: {match: "*"}, low: {match: encoders.low, active: {from: {steps: 9}}}}'
    spec = load_text(SPEC.format(constrain="unit_rows", words=words))
    before, after = trained(spec, 0), trained(spec, 3)
    for name in before:
        if name.startswith("encoders.low."):
            assert torch.equal(before[name], after[name])


def test_a_constraint_that_holds_for_nothing_is_refused() -> None:
    spec = load_text(SPEC.format(constrain="{use: unit_rows, match: weights}", words=""))
    with pytest.raises(ComponentError, match="holds for no parameter of encoders") as caught:
        trained(spec, 0)
    assert "[6, " in caught.value.found
