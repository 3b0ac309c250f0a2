"""Sets and slots: order does not matter, against plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.sets.set_transformer import SetTransformer
from mmflow_encoders.sets.slots import Slots
from torch import Tensor, nn

from mmflow.plugin import TensorType, Tokens

MEMBERS = TensorType("tokens", size=(None, 6))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(encoder: Any) -> Any:
    torch.manual_seed(0)
    module = encoder.build(MEMBERS, state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def sets(**fields: Any) -> Any:
    declared = {"of": "members.tokens", "width": 8, "depth": 2, "heads": 2, **fields}
    return built(SetTransformer.model_validate(declared))


@pytest.mark.parametrize("inducing", [0, 3])
@pytest.mark.parametrize("pool", ["attention", "mean", "max"])
def test_permuted_members_give_permuted_tokens_and_one_vector(inducing: int, pool: str) -> None:
    module, x = sets(inducing=inducing, pool=pool), drawn(3, 5, 6, seed=1)
    order = torch.tensor([3, 0, 4, 1, 2])
    found, other = module(x), module(x[:, order])
    torch.testing.assert_close(other["pooled"], found["pooled"])
    torch.testing.assert_close(other["tokens"].values, found["tokens"].values[:, order])


def test_a_set_transformer_is_its_blocks() -> None:
    module, x = sets(pool="max"), drawn(3, 5, 6, seed=2)
    states = module.project(x)
    for block in module.blocks:
        states = block(states, None)
    found = module(x)
    torch.testing.assert_close(found["tokens"].values, module.norm(states))
    torch.testing.assert_close(found["pooled"], module.norm(states).amax(1))


def test_induced_attention_goes_through_its_points() -> None:
    """Each token sees the set only through m points: its map has m entries, and points read the real members."""
    module, x = sets(inducing=3), drawn(2, 5, 6, seed=3)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = module(Tokens(x, mask), taps=("attention.1",))
    assert found["attention.1"].shape == (2, 2, 5, 3)
    block, states = module.blocks[0], module.project(x[1:, :2])
    points = block.points + block.gather(block.points, block.norm_gather(states), None)
    spread = states + block.spread(block.norm_spread(states), block.norm_points(points), None)
    expected = spread + block.mlp(block.norm_mlp(spread))
    first = module(Tokens(x, mask), taps=("layers.1",))["layers.1"].values
    torch.testing.assert_close(first[1:, :2], expected)


def slots(**fields: Any) -> Any:
    declared = {"of": "image.grid", "count": 3, "width": 4, **fields}
    return built(Slots.model_validate(declared))


def test_slot_attention_is_its_loop() -> None:
    module, x = slots(iterations=2), drawn(2, 5, 6, seed=4)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    found = module(Tokens(x, mask), taps=("attention.1",))
    for row, count in enumerate((5, 3)):
        inputs = module.norm_input(x[row, :count])
        keys, values = module.key(inputs), module.value(inputs)
        state, shares = module.center, inputs
        for _ in range(2):
            scores = torch.stack([keys @ q for q in module.query(module.norm_slots(state))]) / 2
            shares = torch.stack([scores[:, place].softmax(0) for place in range(count)], dim=1)
            weights = (shares + 1e-8) / (shares + 1e-8).sum(1, keepdim=True)
            state = torch.stack([module.update(w @ values, s) for w, s in zip(weights, state, strict=True)])
            state = state + module.mlp(module.norm_mlp(state))
        torch.testing.assert_close(found["tokens"].values[row], state)
        torch.testing.assert_close(found["attention.1"][row, 0, :, :count], shares)
    torch.testing.assert_close(found["attention.1"].sum(2)[:, 0], mask.double())


def test_slots_do_not_see_the_order_and_equal_slots_stay_equal() -> None:
    module, x = slots(), drawn(2, 5, 6, seed=5)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(module(x[:, order])["tokens"].values, module(x)["tokens"].values)
    with torch.no_grad():
        module.center[1] = module.center[0]
    found = module(x)["tokens"].values
    torch.testing.assert_close(found[:, 1], found[:, 0])


def test_drawn_slots_draw_in_training_alone() -> None:
    module, x = slots(start="drawn"), drawn(4, 5, 6, seed=6)
    assert torch.equal(module(x)["tokens"].values, module(x)["tokens"].values)
    assert not torch.allclose(module(x)["tokens"].values[:, 0], module(x)["tokens"].values[:, 1])
    module.train()
    assert not torch.equal(module(x)["tokens"].values, module(x)["tokens"].values)
