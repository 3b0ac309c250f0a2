"""What the example's components promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmflow_example.gated import GatedLinear
from mmflow_example.margin import CosineMargin
from mmflow_example.spread import Spread

from mmflow.plugin import Encoding, TensorType
from mmflow.testing import all_components


@pytest.mark.components(all_components("mmflow-example"))
def test_promises_of_every_component(component_check: Callable[[], None]) -> None:
    component_check()


def test_pairs_above_the_margin_cost_nothing() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert CosineMargin(of=("a", "b"), margin=0.8).compute(a, b).tolist() == [0.0, torch.tensor(0.8).item()]


def test_the_output_has_the_declared_size() -> None:
    encoder = GatedLinear(of=("x",), dim=5)
    kind = TensorType("vector", size=(3,))
    assert encoder.outputs(kind)["pooled"].size == (5,)
    assert encoder.build(kind, state={})(torch.zeros(2, 3)).shape == (2, 5)


def test_equal_vectors_have_no_spread() -> None:
    result = Spread(data="test", of=("x",)).evaluate(Encoding({"pooled": torch.ones(4, 3)}))
    assert [(metric.name, metric.value) for metric in result.metrics] == [("x_spread", 0.0)]
