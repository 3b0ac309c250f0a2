"""Gates, products, concatenation and tables, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.fusion.concat import Concat
from mmflow_encoders.fusion.gated import Gated
from mmflow_encoders.fusion.product import Product
from mmflow_encoders.tables.lookup import Lookup
from torch import Tensor

from mmflow.plugin import ComponentError, Encoding, TensorType, Tokens

VECTOR = TensorType("vector", size=(4,))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gated(**fields: Any) -> tuple[Gated, Any]:
    encoder = Gated.model_validate({"of": ["a", "b"], "width": 3, **fields})
    torch.manual_seed(0)
    return encoder, encoder.build(VECTOR, VECTOR.with_(size=(2,)), state={}).double()


def test_two_gates_are_a_sigmoid() -> None:
    _, module = gated()
    a, b = drawn(5, 4, seed=1), drawn(5, 2, seed=2)
    found = module(Encoding({"pooled": a}), Encoding({"pooled": b}))
    both = torch.cat([a, b], dim=1)
    gate = (module.gates[0](both) - module.gates[1](both)).sigmoid()
    expected = gate * module.values[0](a).tanh() + (1 - gate) * module.values[1](b).tanh()
    torch.testing.assert_close(found["pooled"], expected)
    torch.testing.assert_close(found["gates"], torch.cat([gate, 1 - gate], dim=1))


def test_each_dimension_may_have_a_gate() -> None:
    _, module = gated(gate="vector")
    a, b = drawn(5, 4, seed=3), drawn(5, 2, seed=4)
    both = torch.cat([a, b], dim=1)
    gates = torch.stack([gate(both) for gate in module.gates]).softmax(0)
    expected = gates[0] * module.values[0](a).tanh() + gates[1] * module.values[1](b).tanh()
    torch.testing.assert_close(module(Encoding({"pooled": a}), Encoding({"pooled": b}))["pooled"], expected)


def test_an_absent_input_has_no_weight_whatever_it_holds() -> None:
    encoder, module = gated()
    a, b = drawn(3, 4, seed=5), drawn(3, 2, seed=6)
    here = torch.tensor([True, False, False])
    first, second = Encoding({"pooled": a}), Encoding({"pooled": b}, present=here)
    found = module(first, second)
    assert found["gates"][1].tolist() == [1, 0]
    torch.testing.assert_close(found["pooled"][1], module.values[0](a[1]).tanh())
    other = module(first, Encoding({"pooled": b + 9}, present=here))
    torch.testing.assert_close(other["pooled"][1:], found["pooled"][1:])
    assert encoder.presence([first, second]) is None
    both = encoder.presence([Encoding({"pooled": a}, present=~here), second])
    assert both is not None
    assert both.all()
    neither = module(Encoding({"pooled": a}, present=torch.zeros(3, dtype=torch.bool)), second)
    assert neither["pooled"].isfinite().all()


def test_a_product_is_scaled_and_may_be_projected() -> None:
    a, b = drawn(5, 4, seed=7), drawn(5, 4, seed=8)
    plain = Product.model_validate({"of": ["a", "b"], "scale": 3.0}).build(VECTOR, VECTOR, state={})
    assert not [*plain.parameters()]
    torch.testing.assert_close(plain(a, b), 3 * a * b)
    torch.manual_seed(0)
    made = Product.model_validate({"of": ["a", "b"], "dim": 6, "activation": "tanh"}).build(VECTOR, VECTOR, state={})
    module: Any = made.double()
    expected = module.projections[0](a).tanh() * module.projections[1](b).tanh()
    torch.testing.assert_close(module(a, b), expected)
    with pytest.raises(ComponentError, match="one known width"):
        Product.model_validate({"of": ["a", "b"]}).outputs(VECTOR, VECTOR.with_(size=(3,)))


def test_sequences_follow_each_other_with_their_masks() -> None:
    encoder = Concat.model_validate({"of": ["a", "b", "c"], "axis": "length"})
    words = Tokens(drawn(2, 3, 4, seed=9), torch.tensor([[True, True, False], [True, True, True]]))
    grid, vector = drawn(2, 2, 2, 4, seed=10), drawn(2, 4, seed=11)
    values, mask = encoder.apply(words, grid, vector)["tokens"]
    torch.testing.assert_close(values, torch.cat([words.values, grid.flatten(1, 2), vector[:, None]], dim=1))
    assert mask.tolist() == [[True, True, False, *[True] * 5], [True] * 8]
    types = (TensorType("tokens", size=(3, 4)), TensorType("grid", size=(2, 2, 4)), VECTOR)
    assert encoder.outputs(*types)["tokens"].size == (8, 4)


def test_a_label_reads_its_row_of_the_table() -> None:
    label = TensorType("label", names=("a", "b", "c"))
    module: Any = Lookup.model_validate({"of": "label", "width": 5}).build(label, state={})
    found = module(torch.tensor([2, 0, -1]))
    assert torch.equal(found, torch.stack([module.table[2], module.table[0], torch.zeros(5)]))
    found.sum().backward()
    assert module.table.grad[:, 0].tolist() == [1, 0, 1]
    with pytest.raises(IndexError):
        module(torch.tensor([3]))
    with pytest.raises(ComponentError, match="how many labels"):
        Lookup.model_validate({"of": "label"}).build(TensorType("label"), state={})
