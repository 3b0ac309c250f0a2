"""Heads, attention pooling, cross-attention, joins and score nodes."""

from __future__ import annotations

import pytest
import torch
from mmflow_encoders.fusion.attention_pool import AttentionPool
from mmflow_encoders.fusion.concat import Concat
from mmflow_encoders.fusion.cross_attention import CrossAttention
from mmflow_encoders.fusion.members import Members
from mmflow_encoders.fusion.scores import Scores
from mmflow_encoders.fusion.stack import Stack
from mmflow_encoders.heads.l2norm import L2Norm
from mmflow_encoders.heads.linear import Linear
from mmflow_encoders.heads.mlp import Mlp
from pydantic import ValidationError
from torch import Tensor, nn

from mmflow.plugin import ComponentError, Encoding, TensorType, Tokens


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_batch_norm_makes_a_head_a_batch_node_and_nothing_else_does() -> None:
    assert Mlp(of=("z",), dims=(4, 2), norm="batch").scope() == "batch"  # type: ignore[arg-type]
    assert Mlp(of=("z",), dims=(4, 2), norm="layer").scope() == "row"  # type: ignore[arg-type]
    # One layer has no norm: it stands between layers.
    assert Mlp(of=("z",), dims=(4,), norm="batch").scope() == "row"  # type: ignore[arg-type]


def test_mlp_is_its_layers() -> None:
    torch.manual_seed(0)
    module = Mlp(of=("z",), dims=(5, 3), activation="tanh").build(TensorType("vector", size=(4,)), state={}).double()  # type: ignore[arg-type]
    x = drawn(6, 4, seed=0)
    first, last = module.linears  # type: ignore[misc]
    torch.testing.assert_close(module(x), last(first(x).tanh()))  # type: ignore[operator]


def test_linear_may_end_in_an_activation() -> None:
    torch.manual_seed(0)
    build = Linear(of=("z",), dim=5, activation="elu").build  # type: ignore[arg-type]
    module = build(TensorType("vector", size=(4,)), state={}).double()
    x = drawn(6, 4, seed=11)
    torch.testing.assert_close(module(x), nn.functional.elu(module.linear(x)))  # type: ignore[operator]


def test_l2norm_gives_unit_rows() -> None:
    x = drawn(3, 4, seed=1)
    lengths = [
        Linear(of=("z",), dim=2, l2norm=True).build(TensorType("vector", size=(4,)), state={}).double()(x),  # type: ignore[arg-type]
        L2Norm(of=("z",)).apply(x),  # type: ignore[arg-type]
        L2Norm(of=("z",)).apply(Tokens(drawn(2, 3, 4, seed=2), torch.ones(2, 3, dtype=torch.bool)))["tokens"].values,  # type: ignore[arg-type]
    ]
    for found in lengths:
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:-1], dtype=torch.float64))


def test_batch_norm_of_tokens_leaves_padding_out_of_the_statistics() -> None:
    build = Mlp(of=("z",), dims=(5, 3), norm="batch").build  # type: ignore[arg-type]
    torch.manual_seed(0)
    module = build(TensorType("tokens", size=(None, 4)), state={}).double().train()
    values, mask = drawn(3, 4, 4, seed=3), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    found = module(Tokens(values, mask))["tokens"].values[mask]
    norm = module.norms[0]  # type: ignore[index]
    moved = norm.running_mean.clone(), norm.running_var.clone()
    torch.manual_seed(0)
    other = build(TensorType("vector", size=(4,)), state={}).double().train()
    torch.testing.assert_close(found, other(values[mask]))
    torch.testing.assert_close(moved[0], other.norms[0].running_mean)  # type: ignore[index]
    torch.testing.assert_close(moved[1], other.norms[0].running_var)  # type: ignore[index]


def test_a_head_needs_a_known_width() -> None:
    with pytest.raises(ComponentError, match="known width"):
        Linear(of=("z",), dim=2).build(TensorType("vector", size=(None,)), state={})  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Linear.model_validate({"of": "z", "dim": 0})


def test_attention_pool_reads_a_set() -> None:
    torch.manual_seed(1)
    encoder = AttentionPool(of=("image.tokens",), queries=2)  # type: ignore[arg-type]
    module = encoder.build(TensorType("tokens", size=(None, 8)), state={}).double()
    values, mask = drawn(2, 5, 8, seed=4), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    found = module(Tokens(values, mask))
    torch.testing.assert_close(found["pooled"], found["tokens"].values.mean(1))
    short = module(values[:1, [2, 0, 1]])
    torch.testing.assert_close(found["pooled"][:1], short["pooled"])
    grid = module(values[1:].unflatten(1, (1, 5)))
    torch.testing.assert_close(found["pooled"][1:], grid["pooled"])


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_cross_attention_reads_real_tokens_of_both_sides(pool: str) -> None:
    torch.manual_seed(2)
    encoder = CrossAttention(of=("text.tokens", "image.tokens"), pool=pool)  # type: ignore[arg-type]
    module = encoder.build(
        TensorType("tokens", size=(None, 8)), TensorType("tokens", size=(None, 6)), state={}
    ).double()
    text, text_mask = drawn(1, 4, 8, seed=5), torch.tensor([[1, 1, 1, 0]]).bool()
    image, image_mask = drawn(1, 5, 6, seed=6), torch.tensor([[1, 1, 1, 1, 0]]).bool()
    found = module(Tokens(text, text_mask), Tokens(image, image_mask))["pooled"]
    torch.testing.assert_close(found, module(text[:, :3], image[:, [3, 1, 0, 2]])["pooled"])
    assert not torch.allclose(found, module(text[:, :3], image[:, :3])["pooled"])


def test_concat_and_stack() -> None:
    a, b = drawn(2, 3, seed=7), drawn(2, 4, 3, seed=8)
    assert Concat(of=("a", "b")).apply(a, a).shape == (2, 6)  # type: ignore[arg-type]
    found = Stack(of=("a", "b")).apply(a, b)  # type: ignore[arg-type]
    torch.testing.assert_close(found[:, 0], a)
    torch.testing.assert_close(found[:, 1:], b)
    kinds = TensorType("vector", size=(3,)), TensorType("vector", ("sample", "copy"), (3,), groups=(4,))
    assert Stack(of=("a", "b")).outputs(*kinds)["pooled"].groups == (5,)  # type: ignore[arg-type]
    assert Stack(of=("a", "b")).outputs(*kinds)["pooled"].axes == ("sample", "copy")  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="another axis"):
        Stack(of=("a", "b"), axis="frame").outputs(*kinds)  # type: ignore[arg-type]


def test_scores_give_logits_against_rows_common_to_all() -> None:
    node = Scores(of=("image", "names"), score="neg_sq_euclid")  # type: ignore[arg-type]
    a, b = drawn(4, 3, seed=9), drawn(2, 3, seed=10)
    found = node.apply(Encoding({"pooled": a}), Encoding({"pooled": b}, ("class",)), node.score, 0.5)
    torch.testing.assert_close(found, -torch.cdist(a, b).square() / 0.5)
    with pytest.raises(ComponentError, match="same for every sample"):
        node.outputs(TensorType("vector", size=(3,)), TensorType("vector", size=(3,)))


def test_heads_start_from_bounded_weights_and_zero_bias() -> None:
    module = Linear(of=("z",), dim=50).build(TensorType("vector", size=(100,)), state={})  # type: ignore[arg-type]
    linear = module.linear
    assert isinstance(linear, nn.Linear)
    assert linear.weight.abs().max() <= (6 / 150) ** 0.5
    assert linear.bias.abs().max() == 0


def test_members_put_together_are_those_that_are_present() -> None:
    x = drawn(3, 4, 5, seed=20)
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    given = Encoding({"pooled": x}, ("sample", "frame"), present)
    mean = Members.model_validate({"of": "frames"})
    found = mean.apply(given)
    torch.testing.assert_close(
        found["pooled"], torch.stack([x[0].mean(0), x[1, [0, 2]].mean(0), torch.zeros(5).double()])
    )  # type: ignore[arg-type]
    assert torch.equal(found["tokens"].mask, present)  # type: ignore[union-attr]
    largest = Members.model_validate({"of": "frames", "pool": "max"}).apply(given)["pooled"]
    torch.testing.assert_close(largest, torch.stack([x[0].amax(0), x[1, [0, 2]].amax(0), torch.zeros(5).double()]))  # type: ignore[arg-type]
    assert mean.presence([given]).tolist() == [True, True, False]  # type: ignore[union-attr]
    assert mean.presence([Encoding({"pooled": x}, ("sample", "frame"))]) is None
    with pytest.raises(ComponentError, match="one group axis"):
        mean.outputs(TensorType("vector", size=(5,)))


@pytest.mark.parametrize("name", ["cosine", "neg_sq_euclid"])
def test_scores_of_classes_of_each_sample(name: str) -> None:
    encoder = Scores.model_validate({"of": ["image", "classes"], "score": name})
    a, b = drawn(3, 4, seed=20), drawn(3, 5, 4, seed=21)
    axes = ("sample", "class")
    found = encoder.apply(Encoding({"pooled": a}), Encoding({"pooled": b}, axes), encoder.score, 0.5)
    for row in range(3):
        shared = encoder.apply(
            Encoding({"pooled": a[row : row + 1]}), Encoding({"pooled": b[row]}, ("class",)), encoder.score, 0.5
        )
        torch.testing.assert_close(found[row : row + 1], shared)
    vector = TensorType("vector", size=(4,))
    assert encoder.outputs(vector, vector.with_(axes=axes, groups=(5,)))["pooled"].size == (5,)
    with pytest.raises(ComponentError, match="the axis 'class'"):
        encoder.outputs(vector, vector.with_(axes=("sample", "copy"), groups=(2,)))
