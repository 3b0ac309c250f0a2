"""Optimizers: the published update, and which parameters decay."""

from __future__ import annotations

import copy

import pytest
import torch
from mmflow_optim.optimizers.adam import Adam, AdamW
from mmflow_optim.optimizers.lars import Lars
from mmflow_optim.optimizers.sgd import Sgd
from torch import nn

from mmflow.plugin import Optimizer


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()


def gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", [AdamW, Adam, Sgd, Lars])
def test_biases_and_norms_do_not_decay_by_default(kind: type[Optimizer]) -> None:
    module, declaration = model(), kind.model_validate({"weight_decay": 0.1})
    optimizer = declaration.build([{"params": list(module.parameters()), "lr": 1e-3, "lr_scale": 0.5}])
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
        assert group["lr"] == 1e-3
        assert group["lr_scale"] == 0.5
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(module.parameters()))


def test_decay_may_be_set_for_all_and_for_a_group() -> None:
    module = model()
    everything = AdamW(weight_decay=0.1, decay_1d=True).build([{"params": list(module.parameters()), "lr": 1e-3}])
    assert [g["weight_decay"] for g in everything.param_groups] == [0.1]
    own = AdamW(weight_decay=0.1).build(
        [
            {"params": list(module[0].parameters()), "lr": 1e-3, "weight_decay": 0.0},
            {"params": list(module[2].parameters()), "lr": 1e-3, "weight_decay": 0.3},
        ]
    )
    assert [(g["weight_decay"], len(g["params"])) for g in own.param_groups] == [(0.0, 1), (0.0, 1), (0.3, 1), (0.0, 1)]


def test_adamw_is_the_published_update() -> None:
    module = model()
    weight = module[0].weight
    assert isinstance(weight, nn.Parameter)
    declaration = AdamW(weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6)
    optimizer = declaration.build([{"params": list(module.parameters()), "lr": 0.05}])
    w, m, v = weight.detach().clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        gradients(module, step)
        assert weight.grad is not None
        g = weight.grad
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        w = w - 0.05 * 0.1 * w - 0.05 * (m / (1 - 0.8**step)) / ((v / (1 - 0.9**step)).sqrt() + 1e-6)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), w.detach())


def test_lars_scales_each_matrix_and_leaves_vectors_plain() -> None:
    module = model()
    declaration = Lars(momentum=0.9, trust=0.02, weight_decay=0.1)
    optimizer = declaration.build([{"params": list(module.parameters()), "lr": 0.5}])
    weight, bias = module[0].weight, module[0].bias
    w, b = weight.detach().clone(), bias.detach().clone()
    v, u = torch.zeros_like(w), torch.zeros_like(b)
    for step in range(3):
        gradients(module, step)
        assert weight.grad is not None
        assert bias.grad is not None
        g = weight.grad + 0.1 * w
        v = 0.9 * v + 0.02 * w.norm() / g.norm() * g
        u = 0.9 * u + bias.grad
        w, b = w - 0.5 * v, b - 0.5 * u
        optimizer.step()
    torch.testing.assert_close(weight.detach(), w)
    torch.testing.assert_close(bias.detach(), b)


def test_lars_starts_from_zero_weights() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = Lars(momentum=0.0).build([{"params": [parameter], "lr": 1.0}])
    parameter.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), -torch.ones(2, 2))


@pytest.mark.parametrize("declaration", [AdamW(), Adam(), Sgd(), Lars()])
def test_a_stored_state_goes_on_exactly(declaration: Optimizer) -> None:
    first = model()
    one = declaration.build([{"params": list(first.parameters()), "lr": 0.1}])
    for step in range(2):
        gradients(first, step)
        one.step()
    second = copy.deepcopy(first)
    other = declaration.build([{"params": list(second.parameters()), "lr": 0.1}])
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for module, optimizer in ((first, one), (second, other)):
        gradients(module, 7)
        optimizer.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
