"""What users of embeddings expect: nested lengths, sparse vectors, codes; as sentence-transformers has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_encoders.modules.projection import SparseProjection
from mmflow_evaluators.coded import Codes, coded_rows
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.prediction.mse import MeanSquaredError
from mmflow_objectives.sparsity.flops import Flops
from mmflow_scores.products import Cosine, Dot

from mmflow.flow.run import RunOptions, run_spec
from mmflow.kernels import binary_codes, binary_values, int8_codes, int8_ranges, int8_values
from mmflow.plugin import Encoding, Tokens
from mmflow.spec import load_text
from mmflow.testing import Settings, compute_on

S = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.slow

DRAW = torch.Generator().manual_seed(0)
A, B = (torch.randn(7, 12, generator=DRAW, dtype=torch.float64) for _ in range(2))


class Given(torch.nn.Module):
    """Stands for a model of the library: it gives fixed vectors for numbered texts."""

    def __init__(self, *sides: torch.Tensor) -> None:
        super().__init__()
        self.sides = sides

    def get_embedding_dimension(self) -> int:
        return self.sides[0].shape[1]

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {**features, "sentence_embedding": self.sides[features["side"]]}


@pytest.mark.parametrize("micro", [None, 2])
def test_nested_lengths_are_the_librarys(micro: int | None) -> None:
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    a, b = (x.clone().requires_grad_() for x in (A, B))
    model: Any = Given(a, b)
    theirs = MatryoshkaLoss(
        model, MultipleNegativesRankingLoss(model, scale=20.0), matryoshka_dims=[3, 6, 12],
        matryoshka_weights=[1, 0.5, 2],
    )  # fmt: skip
    value = theirs([{"side": 0}, {"side": 1}], torch.zeros(7))
    value.backward()
    loss = InfoNCE(
        of=("a", "b"), temperature=0.05, directions=("forward",), dims=(3, 6, 12), dim_weights=(1, 0.5, 2)
    )  # fmt: skip
    found = compute_on(loss, settings=Settings(micro_batch_size=micro), a=A, b=B)
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.gradients["a"], a.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.gradients["b"], b.grad, rtol=1e-6, atol=1e-6)


def test_a_loss_of_rows_has_lengths_too() -> None:
    loss = MeanSquaredError(of=("a", "b"), dims=(2, 12))
    found = compute_on(loss, settings=Settings(micro_batch_size=3), a=A, b=B)
    expected = (A - B)[:, :2].square().mean() + (A - B).square().mean()
    torch.testing.assert_close(found.value, expected)


def test_sparse_vectors_are_the_librarys() -> None:
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    logits = torch.randn(5, 6, 11, generator=DRAW)
    mask = torch.arange(6)[None] < torch.tensor([6, 1, 4, 2, 3])[:, None]
    for pool in ("max", "sum"):
        pooling = SpladePooling(pooling_strategy=pool, word_embedding_dimension=11)
        theirs = pooling({"token_embeddings": logits, "attention_mask": mask.long()})["sentence_embedding"]
        found = SparseProjection(11, None, pool=pool)(Tokens(logits, mask))
        torch.testing.assert_close(found, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("micro", [None, 3])
def test_the_penalty_of_sparse_vectors_is_the_librarys(micro: int | None) -> None:
    from sentence_transformers.sparse_encoder.losses import FlopsLoss

    x = A.abs().requires_grad_()
    value = FlopsLoss(Given(x)).compute_loss_from_embeddings(x)  # type: ignore[arg-type]
    value.backward()
    found = compute_on(Flops(of=("a",)), settings=Settings(micro_batch_size=micro), a=A.abs())
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.gradients["a"], x.grad, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.sampled_from([8, 16, 64]), st.integers(0, 99))
def test_codes_are_the_librarys(rows: int, dim: int, seed: int) -> None:
    from sentence_transformers.util import quantize_embeddings

    x = torch.randn(rows + 1, dim, generator=torch.Generator().manual_seed(seed))
    start, step = int8_ranges(x)
    codes = int8_codes(x, start, step)
    assert np.array_equal(codes.numpy(), quantize_embeddings(x.numpy(), precision="int8"))
    assert float(((int8_values(codes, start, step) - x).abs() / step).max()) <= 1.01
    packed = binary_codes(x)
    assert np.array_equal(packed.numpy(), quantize_embeddings(x.numpy(), precision="ubinary"))
    assert torch.equal(binary_values(packed, dim), (x > 0).float())


def test_codes_of_any_width() -> None:
    x = torch.tensor([[1.0, -1.0, 0.0, 2.0, -3.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
    assert binary_codes(x).tolist() == [[0b10010000], [0b11111000]]
    assert torch.equal(binary_values(binary_codes(x), 5), (x > 0).float())
    start, step = int8_ranges(torch.ones(3, 2))
    assert torch.equal(int8_values(int8_codes(torch.ones(3, 2), start, step), start, step), torch.ones(3, 2))


def test_a_search_among_bits_is_the_librarys_rescored() -> None:
    """Of each query the best candidates by shared bits, ordered by the query's own numbers."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(5, 32, generator=draw), torch.randn(60, 32, generator=draw)
    codes = Codes(to="binary", rescore=8)
    (_, found), *rest = coded_rows(Dot(), Encoding({"pooled": x}), Encoding({"pooled": y}), codes)
    assert not rest
    bits = (y > 0).float()
    hamming = ((x > 0).float()[:, None] != bits[None]).sum(-1)
    for query, scores in enumerate(found):
        order = scores.argsort(descending=True, stable=True)
        best = set(order[:8].tolist())
        assert max(hamming[query, sorted(best)]) <= min(hamming[query, sorted(set(range(60)) - best)])
        rescored = (x[query] @ bits[order[:8]].T).tolist()
        assert rescored == sorted(rescored, reverse=True)
        assert (hamming[query, order[8:]].diff() >= 0).all()


def test_int8_scores_are_near_and_the_rest_is_refused() -> None:
    sides = [Encoding({"pooled": x.float()}) for x in (A, B)]
    ((_, found),) = coded_rows(Cosine(), *sides, Codes(to="int8"))
    torch.testing.assert_close(found, Cosine().blocks(*sides), rtol=0, atol=2e-2)


SPEC = """
mmflow: 1
name: nested
data:
  train: {use: shapes, split: train, size: 64, pixels: 16}
  test: {use: shapes, split: test, size: 40, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, head: {use: linear, dim: 16}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, tokenizer: byte, head: {use: linear, dim: 16}}
  words: {use: sparse, of: text.tokens, dim: 24}
  marks: {use: sparse, of: image.tokens, dim: 24}
losses:
  align: {use: infonce, of: [image, text], dims: [4, 8, 16]}
  sparse: {use: infonce, of: [marks, words], score: dot, temperature: 1}
  cost: {use: flops, of: [marks, words], weight: 1e-2}
train: {data: train, steps: 4, batch_size: 16, micro_batch_size: 8}
eval:
  nested: {use: retrieval, data: test, of: [image, text], at: [1, 5], dims: [4, 8]}
  small: {use: retrieval, data: test, of: [image, text], at: [1, 5], codes: {to: int8}}
  bits: {use: retrieval, data: test, of: [image, text], at: [1, 5], codes: {to: binary, rescore: 10}}
  sparse: {use: retrieval, data: test, of: [marks, words], at: [1, 5], score: dot}
"""


def test_a_spec_trains_and_measures_them(tmp_path: Any) -> None:
    torch.set_num_threads(1)
    options = RunOptions(store=str(tmp_path), engine="local", device="cpu", workers=0)
    outcome = run_spec(load_text(SPEC), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    names = {m["name"]: m for m in outcome.metrics["nested"]}
    assert {"image_to_text_r1", "image_to_text_r1_d4", "image_to_text_r1_d8", "mean_recall_d4"} <= names.keys()
    assert names["image_to_text_r1_d4"]["group"].endswith("first 4")
    for stage in ("small", "bits", "sparse"):
        assert outcome.metrics[stage]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("losses.align.dims=[4, 99]", "99 of vectors of 16 numbers"),
        ("losses.align.dim_weights=[1]", "1 weights for 3"),
        ("eval.nested.dims=[99]", "99 of vectors of 16 numbers"),
    ],
)
def test_mistakes_are_told_before_a_run(change: str, said: str, tmp_path: Any) -> None:
    from mmflow.spec import SpecError

    with pytest.raises(SpecError, match=said):
        run_spec(load_text(SPEC, overrides=[change]), RunOptions(store=str(tmp_path), engine="local", device="cpu"))
