"""Graph networks against matrices multiplied by hand, and under permuted nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.graphs.graph import Graph
from pydantic import ValidationError
from torch import Tensor, nn

from mmflow.plugin import TensorType

NODES = TensorType("vector", ("node",), (5,))
EDGES = TensorType("vector", ("node",), (6,))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def edges(seed: int) -> Tensor:
    """Symmetric counts without loops; the last node has no neighbor."""
    counts = torch.randint(0, 3, (6, 6), generator=torch.Generator().manual_seed(seed)).double()
    counts[-1] = counts[:, -1] = 0
    return (counts + counts.T).fill_diagonal_(0)


def built(types: int, **fields: Any) -> Any:
    encoder = Graph.model_validate({"of": ["x", *["a"] * types], "width": 4, **fields})
    assert encoder.scope() == "batch"
    torch.manual_seed(0)
    module = encoder.build(NODES, *[EDGES] * types, state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


def normalized(matrix: Tensor, how: str, *, loops: bool) -> Tensor:
    matrix = matrix + torch.eye(6) if loops else matrix
    degree = matrix.sum(1)
    if how == "sum":
        return matrix
    if how == "mean":
        return matrix / degree.clamp_min(1e-300)[:, None]
    scale = torch.where(degree > 0, degree, torch.inf) ** -0.5
    return torch.diag(scale) @ matrix @ torch.diag(scale)


@pytest.mark.parametrize("neighbors", ["symmetric", "mean", "sum"])
@pytest.mark.parametrize("loops", [True, False])
def test_types_of_edges_are_added_in_each_layer(neighbors: str, loops: bool) -> None:
    module = built(2, neighbors=neighbors, loops=loops)
    x, matrices = drawn(6, 5, seed=1), [edges(2), edges(3)]
    states = x
    for layer in range(2):
        total = module.selves[layer](states)
        for stack, matrix in zip(module.stacks, matrices, strict=True):
            total = total + normalized(matrix, neighbors, loops=loops) @ stack[layer].linear(states)
        states = total if layer else total.relu()
    found = module(x, *matrices)["pooled"]
    assert found.isfinite().all()
    torch.testing.assert_close(found, states)


def test_one_layer_over_one_type_is_the_graph_convolution() -> None:
    """softmax(D^-1/2 (A + I) D^-1/2 X W) of the paper, but for the softmax."""
    module, x, matrix = built(1, depth=1, paths="attention"), drawn(6, 5, seed=4), edges(5)
    linear = module.stacks[0][0].linear
    expected = normalized(matrix, "symmetric", loops=True) @ (x @ linear.weight.T + linear.bias)
    torch.testing.assert_close(module(x, matrix)["pooled"], expected)


@pytest.mark.parametrize("share", [False, True])
def test_attention_weighs_meta_paths(share: bool) -> None:
    module, x, matrices = built(2, paths="attention", share=share), drawn(6, 5, seed=6), [edges(7), edges(8)]
    results = []
    for number, matrix in enumerate(matrices):
        states = x
        for layer, own in enumerate(module.stacks[0 if share else number]):
            states = normalized(matrix, "symmetric", loops=True) @ own.linear(states if not layer else states.relu())
        results.append(states)
    scores = torch.stack([module.paths(states).mean() for states in results])
    weights = scores.softmax(0)
    found = module(x, *matrices, taps=("paths",))
    torch.testing.assert_close(found["pooled"], weights[0] * results[0] + weights[1] * results[1])
    torch.testing.assert_close(found["paths"], weights.expand(6, 2))


def test_attention_reads_neighbors_alone() -> None:
    module, x, matrix = (
        built(1, neighbors="attention", heads=2, depth=1, paths="attention"),
        drawn(6, 5, seed=9),
        edges(10),
    )
    layer = module.stacks[0][0]
    theirs = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    ours = layer.attention
    theirs.load_state_dict({
        "in_proj_weight": torch.cat([ours.query.weight, ours.key_value.weight]),
        "in_proj_bias": torch.cat([ours.query.bias, ours.key_value.bias]),
        "out_proj.weight": ours.out.weight, "out_proj.bias": ours.out.bias,
    })  # fmt: skip
    states = layer.linear(x)[None]
    hidden = (matrix + torch.eye(6)) == 0
    torch.testing.assert_close(module(x, matrix)["pooled"], theirs(states, states, states, attn_mask=hidden)[0][0])
    far = x.clone()
    far[4] += 5
    same = (module(x, matrix)["pooled"] - module(far, matrix)["pooled"]).abs().amax(1) == 0
    assert same.tolist() == [bool(matrix[node, 4] == 0) and node != 4 for node in range(6)]


@pytest.mark.parametrize("fields", [{}, {"paths": "attention"}, {"neighbors": "attention", "heads": 2}])
def test_permuted_nodes_give_permuted_vectors(fields: dict[str, Any]) -> None:
    module, x, matrices = built(2, **fields), drawn(6, 5, seed=11), [edges(12), edges(13)]
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    turned = [matrix[order][:, order] for matrix in matrices]
    torch.testing.assert_close(module(x[order], *turned)["pooled"], module(x, *matrices)["pooled"][order])


def test_shared_weights_need_attention_over_types() -> None:
    with pytest.raises(ValidationError, match="needs paths: attention"):
        built(2, share=True)
