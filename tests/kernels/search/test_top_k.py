"""Exact search and votes against the definition."""

import os

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmflow.kernels.search import knn_vote, top_k

pytestmark = pytest.mark.slow

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def whole_numbers(n, d, seed, high=4):
    """Small integers: products are exact in float32, and ties are everywhere."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (n, d), generator=g).float().to(DEVICE)


RULES = st.sampled_from(["none", "exclude", "several", "ids"])


@settings(max_examples=25, deadline=None)
@given(
    q=st.sampled_from([1, 2, 7, 300]),
    g=st.sampled_from([1, 5, 64, 257, 1500]),
    d=st.sampled_from([1, 3, 20]),
    share=st.floats(0, 1),
    rule=RULES,
)
def test_hits_are_those_of_a_stable_sort(q, g, d, share, rule):
    check_hits("chunked", q, g, d, share, rule)


@pytest.mark.skipif("triton" not in FORMS, reason="no GPU, and Triton's interpreter is off")
@settings(max_examples=12, deadline=None)
@given(
    q=st.sampled_from([1, 7, 19]),
    g=st.sampled_from([1, 5, 64, 450]),
    d=st.sampled_from([1, 3, 37]),
    share=st.floats(0, 1),
    rule=RULES,
)
@example(q=19, g=450, d=3, share=0.4, rule="several")
@example(q=19, g=450, d=3, share=1.0, rule="ids")
def test_the_kernel_hits_what_a_stable_sort_does(q, g, d, share, rule):
    check_hits("triton", q, g, d, share, rule)


def check_hits(backend, q, g, d, share, rule):
    k = max(1, min(g, int(share * min(g, 40))))
    queries, gallery = whole_numbers(q, d, 1), whole_numbers(g, d, 2)
    generator = torch.Generator().manual_seed(3)
    options = {
        "none": {},
        "exclude": {"exclude": torch.randint(-1, g, (q,), generator=generator)},
        "several": {"exclude": torch.randint(-1, g, (q, 5), generator=generator)},
        "ids": {
            "query_ids": torch.randint(0, 3, (q,), generator=generator),
            "gallery_ids": torch.randint(0, 3, (g,), generator=generator),
        },
    }[rule]
    options = {name: t.to(DEVICE) for name, t in options.items()}
    expected = top_k(queries, gallery, k, backend="reference", **options)
    found = top_k(queries, gallery, k, backend=backend, **options)
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.indices, expected.indices)


def test_galleries_beyond_one_tile():
    queries, gallery = whole_numbers(3, 4, 1), whole_numbers(60_000, 4, 2)
    import mmflow.kernels.search.chunked as chunked

    tile, chunked._TILE_BYTES = chunked._TILE_BYTES, 50_000
    try:
        found = top_k(queries, gallery, 17, backend="chunked")
    finally:
        chunked._TILE_BYTES = tile
    expected = top_k(queries, gallery, 17, backend="reference")
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes_and_labels(backend, dtype):
    if backend == "triton" and dtype == torch.float64:
        pytest.skip("float64 streams")
    queries, gallery = whole_numbers(5, 8, 1).to(dtype), whole_numbers(90, 8, 2).to(dtype)
    labels = torch.arange(180, device=DEVICE).view(90, 2)
    hits = top_k(queries, gallery, 4, labels=labels, backend=backend)
    assert hits.values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert hits.labels is not None
    assert torch.equal(hits.labels, labels[hits.indices])
    assert torch.equal(hits.indices, top_k(queries.double(), gallery.double(), 4, backend="reference").indices)


@pytest.mark.parametrize("backend", FORMS)
def test_transposed_inputs_and_the_same_bits_twice(backend):
    g = torch.Generator().manual_seed(1)
    queries, gallery = (torch.randn(45, n, generator=g).to(DEVICE).T[::2] for n in (6, 500))
    found, again = (top_k(queries, gallery, 9, backend=backend) for _ in range(2))
    expected = top_k(queries.double(), gallery.double(), 9, backend="reference")
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.values.double(), expected.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.values, again.values)
    assert torch.equal(found.indices, again.indices)


def test_what_the_kernel_does_not_take_streams(monkeypatch):
    x = whole_numbers(200, 3, 1)
    many = torch.zeros(200, 65, dtype=torch.int64, device=DEVICE)
    with pytest.raises(ValueError, match="at most 128"):
        top_k(x, x, 129, backend="triton")
    with pytest.raises(ValueError, match="at most 64"):
        top_k(x, x, 1, exclude=many, backend="triton")
    monkeypatch.setenv("MMFLOW_KERNELS", "triton")
    assert torch.equal(top_k(x, x, 129).indices, top_k(x, x, 129, backend="reference").indices)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("entry", [0, 63, 64, 127, 128, 199])
def test_one_excluded_entry_wherever_it_lies(backend, entry):
    gallery = torch.ones(200, 1, device=DEVICE)
    gallery[entry] = 2
    hits = top_k(gallery[:1] * 0 + 1, gallery, 2, exclude=torch.tensor([entry], device=DEVICE), backend=backend)
    assert hits.indices.tolist() == [[1, 2] if entry == 0 else [0, 1]]


@pytest.mark.parametrize("backend", FORMS)
def test_a_late_hit_takes_the_place_of_the_last_of_equals(backend):
    gallery = torch.ones(600, 1, device=DEVICE)
    gallery[100] = gallery[170] = 2
    hits = top_k(torch.ones(1, 1, device=DEVICE), gallery, 5, backend=backend)
    assert hits.indices.tolist() == [[100, 170, 0, 1, 2]]


@pytest.mark.parametrize("backend", ["reference", *FORMS])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("entry", [0, 300, 599])
def test_scores_without_a_rank_are_refused(backend, bad, entry):
    queries, gallery = torch.ones(3, 4, device=DEVICE), whole_numbers(600, 4, 1)
    gallery[entry, 2] = bad
    with pytest.raises(
        ValueError, match=f"1 of the 600 rows of gallery hold NaN or infinity, the first is row {entry}"
    ):
        top_k(queries, gallery, 5, backend=backend)
    everywhere = torch.full((3,), entry, device=DEVICE)
    hits = top_k(queries, gallery, 5, exclude=everywhere, backend=backend)
    gallery[entry] = -1000
    assert torch.equal(hits.indices, top_k(queries, gallery, 5, backend="reference").indices)
    queries[1, 0] = bad
    with pytest.raises(ValueError, match="rows of queries hold NaN or infinity, the first is row 1"):
        top_k(queries, gallery, 600, backend="chunked" if backend == "triton" else backend)
    with pytest.raises(ValueError, match="overflows"):
        top_k(torch.full((1, 4), 3e38, device=DEVICE), torch.full((9, 4), 3e38, device=DEVICE), 2, backend=backend)


def test_fewer_entries_than_k_are_marked():
    hits = top_k(torch.eye(2), torch.eye(2), 2, exclude=torch.tensor([0, -1]))
    assert hits.indices.tolist() == [[1, -1], [1, 0]]
    assert hits.values[0, 1] == -torch.inf


def test_wrong_input_is_explained():
    x = torch.ones(3, 4)
    with pytest.raises(ValueError, match="between 1 and the 3"):
        top_k(x, x, 4)
    with pytest.raises(ValueError, match="nothing to search"):
        top_k(x[:0], x, 1)
    with pytest.raises(ValueError, match="come together"):
        top_k(x, x, 1, query_ids=torch.arange(3))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        knn_vote(x, x, torch.arange(3), 1, classes=2)


def test_vote_weighs_neighbors_by_similarity():
    gallery = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 2])
    query = torch.tensor([[1.0, 0.0]])
    uniform = knn_vote(query, gallery, labels, 3, weights="uniform")
    assert uniform.tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3), 0.0]]
    near = torch.exp(torch.tensor([1.0, 0.8, 0.8]) / 0.1)
    expected = near[0] / near.sum()
    assert knn_vote(query, gallery, labels, 3, temperature=0.1)[0, 0].item() == pytest.approx(expected.item())


def test_leave_one_out_does_not_see_the_query():
    x = torch.nn.functional.normalize(torch.randn(30, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    hits = top_k(x, x, 3, exclude=torch.arange(30))
    assert not (hits.indices == torch.arange(30)[:, None]).any()
    assert (
        knn_vote(x, x, torch.arange(30), 1, exclude=torch.arange(30)).argmax(1).tolist() == hits.indices[:, 0].tolist()
    )


def test_similarities_far_below_zero_still_vote():
    votes = knn_vote(torch.tensor([[-40.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]), 2)
    assert votes.argmax().item() == 0
    assert votes.sum().item() == pytest.approx(1)
