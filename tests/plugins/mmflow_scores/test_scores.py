"""Scores: blocks against loops, pairs against the diagonal of blocks, late interaction's masks and directions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_scores.maxsim import MaxSim

from mmflow.plugin import Encoding, Score, Tokens
from mmflow.plugin.registry import registry

VECTORS = {
    "dot": lambda x, y: (x * y).sum(),
    "cosine": lambda x, y: (x * y).sum() / (x.norm() * y.norm()),
    "neg_sq_euclid": lambda x, y: -(x - y).square().sum(),
}


def pooled(n: int, d: int, seed: int) -> Encoding:
    return Encoding({"pooled": torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)})


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_vector_scores_are_their_formulas(name: str) -> None:
    score = registry().get("score", name)()
    assert isinstance(score, Score)
    a, b = pooled(4, 3, 0), pooled(6, 3, 1)
    expected = torch.stack([torch.stack([VECTORS[name](x, y) for y in b.pooled]) for x in a.pooled])
    torch.testing.assert_close(score.blocks(a, b), expected)
    torch.testing.assert_close(score.pairs(a, b.rows(slice(0, 4))), expected.diagonal())
    if (x := score.vectors(a)) is not None and (y := score.vectors(b)) is not None:
        torch.testing.assert_close(x @ y.T, expected)


def test_cosine_of_half_precision_does_not_overflow() -> None:
    large = Encoding({"pooled": torch.full((2, 4), 3e4, dtype=torch.float16)})
    torch.testing.assert_close(registry().get("score", "cosine")().blocks(large, large), torch.ones(2, 2))  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_late_interaction_inside_autocast(dtype: torch.dtype, reduce: str) -> None:
    score = MaxSim(reduce=reduce)  # type: ignore[arg-type]
    of = tokens(0, [3, 1, 0], 4), tokens(1, [2, 3, 1], 4)
    a, b = (Encoding({"tokens": Tokens(one.tokens.values.float(), one.tokens.mask)}) for one in of)
    blocks, pairs = score.blocks(a, b), score.pairs(a, b)
    with torch.autocast("cpu", dtype):
        inside, alone = score.blocks(a, b), score.pairs(a, b)
    for found, expected in (*zip(inside, blocks, strict=True), (alone, pairs)):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


def test_squared_distances_far_from_the_origin_keep_their_precision() -> None:
    near = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    far = Encoding({"pooled": near + 1000})
    found = registry().get("score", "neg_sq_euclid")().blocks(far, far)  # type: ignore[attr-defined]
    torch.testing.assert_close(found, -torch.cdist(near, near).square(), atol=2e-2, rtol=0)


def tokens(draw_seed: int, lengths: list[int], width: int) -> Encoding:
    generator = torch.Generator().manual_seed(draw_seed)
    values = torch.randn(len(lengths), max([*lengths, 1]), width, generator=generator, dtype=torch.float64)
    mask = torch.arange(values.shape[1])[None] < torch.tensor(lengths)[:, None]
    return Encoding({"tokens": Tokens(values, mask)})


def by_loop(a: Encoding, b: Encoding, reduce: str, normalize: bool) -> torch.Tensor:
    """s_ab[i, j] = reduce over the real tokens of a_i of the best product with a real token of b_j."""
    found = torch.zeros(len(a), len(b), dtype=torch.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            x, y = (e.tokens.values[k][e.tokens.mask[k]] for e, k in ((a, i), (b, j)))
            if normalize:
                x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
            best = [max(float(p @ q) for q in y) for p in x] if len(x) and len(y) else [0.0]
            found[i, j] = {"mean": sum(best) / len(best), "sum": sum(best), "max": max(best)}[reduce]
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.sampled_from(["mean", "sum", "max"]),
    st.booleans(),
    st.integers(0, 99),
)
def test_maxsim_is_the_loop_in_both_directions(
    left: list[int], right: list[int], reduce: str, normalize: bool, seed: int
) -> None:
    a, b = tokens(seed, left, 3), tokens(seed + 100, right, 3)
    score = MaxSim(reduce=reduce, normalize=normalize)  # type: ignore[arg-type]
    s_ab, s_ba = score.blocks(a, b)
    assert s_ab.shape == (len(left), len(right))
    assert s_ba.shape == (len(right), len(left))
    torch.testing.assert_close(s_ab, by_loop(a, b, reduce, normalize))
    torch.testing.assert_close(s_ba, by_loop(b, a, reduce, normalize))


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_maxsim_pairs_are_the_mean_of_both_directions(reduce: str) -> None:
    a, b = tokens(3, [2, 4, 0], 3), tokens(4, [3, 1, 2], 3)
    score = MaxSim(reduce=reduce)  # type: ignore[arg-type]
    s_ab, s_ba = score.blocks(a, b)
    torch.testing.assert_close(score.pairs(a, b), (s_ab.diagonal() + s_ba.diagonal()) / 2)


def test_maxsim_of_a_subset_of_tokens_depends_on_the_side() -> None:
    """Tokens of b are m of the n orthonormal tokens of a: seen from b the match is whole, from a it is m / n."""
    whole = torch.eye(5, dtype=torch.float64)[None]
    a = Encoding({"tokens": Tokens(whole, torch.ones(1, 5, dtype=torch.bool))})
    b = Encoding({"tokens": Tokens(whole[:, :2], torch.ones(1, 2, dtype=torch.bool))})
    s_ab, s_ba = MaxSim().blocks(a, b)
    assert s_ba.item() == pytest.approx(1)
    assert s_ab.item() == pytest.approx(2 / 5)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_maxsim_gradients_agree_between_blocks_and_pairs(reduce: str) -> None:
    a, b = tokens(5, [3, 2, 4], 3), tokens(6, [2, 4, 1], 3)
    gradients = []
    for way in ("blocks", "pairs"):
        x = a.tokens.values.clone().requires_grad_()
        left = Encoding({"tokens": Tokens(x, a.tokens.mask)})
        score = MaxSim(reduce=reduce)  # type: ignore[arg-type]
        found = score.blocks(left, b) if way == "blocks" else score.pairs(left, b)
        value = (found[0].diagonal() + found[1].diagonal()) / 2 if isinstance(found, tuple) else found
        gradients.append(torch.autograd.grad(value.sum(), x)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
