"""Attention, blocks and pooling by attention: equal to torch's own layers with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.fusion.attention_pool import AttentionPool
from mmflow_encoders.fusion.cross_attention import CrossAttention
from mmflow_encoders.modules.attention import Attention, Block, attention_mask
from torch import Tensor, nn

from mmflow.plugin import TensorType, Tokens

WORDS = TensorType("tokens", size=(None, 12))
PATCHES = TensorType("tokens", size=(6, 20))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wide(module: nn.Module) -> Any:
    """The module in double precision with weights that are not small."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def mask(*lengths: int, most: int) -> Tensor:
    return torch.arange(most)[None] < torch.tensor(lengths)[:, None]


def into(theirs: nn.MultiheadAttention, ours: Attention) -> None:
    """Copy our weights into torch's attention, whose keys and values may have another width."""
    state = {"out_proj.weight": ours.out.weight, "out_proj.bias": ours.out.bias}
    key, value = ours.key_value.weight.chunk(2)
    if theirs.in_proj_weight is None:
        state |= {"q_proj_weight": ours.query.weight, "k_proj_weight": key, "v_proj_weight": value}
    else:
        state["in_proj_weight"] = torch.cat([ours.query.weight, key, value])
    state["in_proj_bias"] = torch.cat([ours.query.bias, ours.key_value.bias])
    theirs.load_state_dict(state)


def test_attention_is_the_one_of_torch_with_its_map() -> None:
    ours = wide(Attention(12, 3, 0.0, 20))
    theirs = nn.MultiheadAttention(12, 3, kdim=20, vdim=20, batch_first=True, dtype=torch.float64).eval()
    into(theirs, ours)
    x, memory, real = drawn(2, 5, 12, seed=1), drawn(2, 6, 20, seed=2), mask(6, 4, most=6)
    maps: dict[str, Tensor] = {}
    found = ours(x, memory, attention_mask(real), maps, "here")
    expected, weights = theirs(x, memory, memory, key_padding_mask=~real, average_attn_weights=False)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(maps["here"], weights)
    assert (maps["here"][1, :, :, 4:] == 0).all()


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_the_pre_norm_layer_of_torch(causal: bool) -> None:
    ours = wide(Block(12, 3, 2.0, 0.0))
    theirs = nn.TransformerEncoderLayer(
        12, 3, 24, dropout=0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    ).eval()
    into(theirs.self_attn, ours.self_attention)
    for mine, other in (("norm_self", "norm1"), ("norm_mlp", "norm2")):
        getattr(theirs, other).load_state_dict(getattr(ours, mine).state_dict())
    theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
    theirs.linear2.load_state_dict(ours.mlp[3].state_dict())
    x, real = drawn(2, 5, 12, seed=3), mask(5, 3, most=5)
    future = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64) if causal else None
    padding = torch.zeros(2, 5, dtype=torch.float64).masked_fill(~real, -torch.inf)
    expected = theirs(x, src_mask=future, src_key_padding_mask=padding)
    found = ours(x, attention_mask(real, causal=causal))
    torch.testing.assert_close(found[real], expected[real])


def test_a_block_with_a_memory_is_the_decoder_layer_of_torch() -> None:
    ours = wide(Block(12, 3, 2.0, 0.0, 12))
    theirs = nn.TransformerDecoderLayer(
        12, 3, 24, dropout=0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    ).eval()
    into(theirs.self_attn, ours.self_attention)
    into(theirs.multihead_attn, ours.cross_attention)
    for mine, other in (("norm_self", "norm1"), ("norm_cross", "norm2"), ("norm_mlp", "norm3")):
        getattr(theirs, other).load_state_dict(getattr(ours, mine).state_dict())
    theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
    theirs.linear2.load_state_dict(ours.mlp[3].state_dict())
    x, memory = drawn(2, 5, 12, seed=4), drawn(2, 6, 12, seed=5)
    real, others = mask(5, 3, most=5), mask(6, 2, most=6)
    expected = theirs(x, memory, tgt_key_padding_mask=~real, memory_key_padding_mask=~others)
    found = ours(x, attention_mask(real), memory, attention_mask(others))
    torch.testing.assert_close(found[real], expected[real])


def test_cross_attention_gives_the_maps_of_its_blocks() -> None:
    encoder = CrossAttention.model_validate({"of": ["a", "b"], "depth": 2, "heads": 3})
    module = wide(encoder.build(WORDS, PATCHES, state={}))
    words, real = drawn(2, 5, 12, seed=6), mask(5, 3, most=5)
    patches = drawn(2, 6, 20, seed=7)
    found = module(Tokens(words, real), patches, taps=encoder.taps())
    assert found["attention.1"].shape == (2, 3, 5, 5)
    assert found["cross.2"].shape == (2, 3, 5, 6)
    assert (found["attention.2"][1, :, :, 3:] == 0).all()
    torch.testing.assert_close(found["cross.1"].sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(module.norm(found["layers.2"].values), found["tokens"].values)


def pool(condition: TensorType | None = None, **fields: Any) -> Any:
    inputs = (PATCHES,) if condition is None else (PATCHES, condition)
    encoder = AttentionPool.model_validate({"of": ["a", "b"][: len(inputs)], "width": 12, "heads": 3, **fields})
    return wide(encoder.build(*inputs, state={}))


def expected_of(module: Any, queries: Tensor, x: Tensor) -> Tensor:
    theirs = nn.MultiheadAttention(12, 3, kdim=20, vdim=20, batch_first=True, dtype=torch.float64).eval()
    into(theirs, module.attention)
    memory = module.norm_memory(x)
    return module.norm(theirs(queries, memory, memory)[0])


def test_learned_queries_attend_once() -> None:
    module, x = pool(queries=2), drawn(3, 6, 20, seed=8)
    found = module(x)
    torch.testing.assert_close(found["tokens"].values, expected_of(module, module.queries.expand(3, -1, -1), x))
    torch.testing.assert_close(found["pooled"], found["tokens"].values.mean(1))


def test_a_vector_is_added_to_the_learned_queries() -> None:
    module = pool(TensorType("vector", size=(5,)), queries=2)
    x, condition = drawn(3, 6, 20, seed=9), drawn(3, 5, seed=10)
    queries = module.queries + module.condition(condition)[:, None]
    torch.testing.assert_close(module(x, condition)["tokens"].values, expected_of(module, queries, x))


def test_tokens_are_the_queries_and_their_padding_stays_padding() -> None:
    module = pool(TensorType("tokens", size=(None, 7)))
    assert module.queries is None
    x, words, real = drawn(2, 6, 20, seed=11), drawn(2, 4, 7, seed=12), mask(4, 2, most=4)
    found = module(x, Tokens(words, real))
    values = expected_of(module, module.condition(words), x)
    torch.testing.assert_close(found["tokens"].values[real], values[real])
    assert torch.equal(found["tokens"].mask, real)
    torch.testing.assert_close(found["pooled"][1], values[1, :2].mean(0))
