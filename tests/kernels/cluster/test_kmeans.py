"""k-means: exact assignments, seeds that find separated clusters, and clusters that lost their rows."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow.kernels.cluster.chunked as chunked
from mmflow.kernels.cluster import kmeans, nearest_center

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(n, d, seed, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def blobs(k, per, d, seed, spread=0.05):
    centers = 3 * normal(k, d, seed)
    return (centers[:, None] + spread * normal(k * per, d, seed + 1).view(k, per, d)).flatten(0, 1), centers


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=20, deadline=None)
@given(
    n=st.sampled_from([1, 5, 100]),
    k=st.sampled_from([1, 2, 70, 200]),
    d=st.sampled_from([1, 6, 37]),
    tile_bytes=st.sampled_from([400, 8000]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_nearest_centers_are_those_of_the_definition(backend, n, k, d, tile_bytes, dtype):
    if backend == "triton" and dtype == torch.float64:
        return
    g = torch.Generator().manual_seed(n + k)
    # Whole numbers: every distance is exact, and ties are many.
    x, centers = (torch.randint(-3, 4, (s, d), generator=g).to(DEVICE, dtype) for s in (n, k))
    expected = nearest_center(x, centers, backend="reference")
    before, chunked._TILE_BYTES = chunked._TILE_BYTES, tile_bytes
    try:
        found = nearest_center(x, centers, backend=backend)
    finally:
        chunked._TILE_BYTES = before
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("backend", FORMS)
def test_transposed_inputs_and_the_same_bits_twice(backend):
    x, centers = (normal(21, s, s).to(DEVICE).T for s in (90, 40))
    found, again = (nearest_center(x[::2], centers[1:], backend=backend) for _ in range(2))
    expected = nearest_center(x[::2].double(), centers[1:].double(), backend="reference")
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0], again[0])
    assert torch.equal(found[1], again[1])


@pytest.mark.parametrize("backend", FORMS)
def test_the_iteration_agrees_with_the_definition(backend):
    x = blobs(5, 9, 3, 1)[0].to(DEVICE)
    expected = kmeans(x.double(), 5, backend="reference")
    found = kmeans(x, 5, backend=backend)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.centers.double(), expected.centers, rtol=1e-5, atol=1e-5)


def test_separated_clusters_are_found():
    x, centers = blobs(12, 30, 5, 1)
    found = kmeans(x, 12, restarts=3)
    truth = torch.arange(12).repeat_interleave(30)
    for j in range(12):
        assert len(found.labels[truth == j].unique()) == 1
    assert len(found.labels.unique()) == 12
    assert nearest_center(centers, found.centers)[1].max() < 0.05
    assert found.inertia.item() == pytest.approx(float((x - found.centers[found.labels]).square().sum()), rel=1e-5)


def test_centers_are_means_and_labels_are_nearest():
    x = normal(200, 4, 1, torch.float64)
    found = kmeans(x, 7, tolerance=0.0, iterations=500)
    for j in range(7):
        torch.testing.assert_close(found.centers[j], x[found.labels == j].mean(0))
    assert torch.equal(nearest_center(x, found.centers)[0], found.labels)


def test_more_restarts_are_never_worse_and_equal_calls_agree():
    x = normal(150, 3, 1)
    one = kmeans(x, 10, restarts=1)
    many = kmeans(x, 10, restarts=8)
    assert many.inertia <= one.inertia
    again = kmeans(x, 10, restarts=8)
    assert torch.equal(many.centers, again.centers)
    other = kmeans(x, 10, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(other.centers, one.centers)


def test_a_center_without_rows_moves_to_the_farthest_row():
    x = torch.tensor([[0.0], [1.0], [10.0]])
    found = kmeans(x, 2, seeds=torch.tensor([[0.5], [1e6]]))
    assert sorted(found.centers.flatten().tolist()) == [0.5, 10.0]
    assert found.labels.tolist()[0] == found.labels.tolist()[1] != found.labels.tolist()[2]


def test_equal_rows_and_k_of_all_rows():
    assert kmeans(torch.ones(5, 3), 3).inertia.item() == 0
    x = normal(6, 2, 1)
    assert kmeans(x, 6).inertia.item() == pytest.approx(0, abs=1e-10)


def test_spherical_centers_are_unit_vectors():
    x = normal(100, 6, 1) * torch.linspace(0.1, 10, 100)[:, None]
    found = kmeans(x, 5, spherical=True)
    torch.testing.assert_close(found.centers.norm(dim=1), torch.ones(5))
    cosine = torch.nn.functional.normalize(x, dim=1) @ found.centers.T
    assert torch.equal(cosine.argmax(1), found.labels)


def test_wrong_input_is_explained():
    with pytest.raises(ValueError, match="between 1 and the 3"):
        kmeans(torch.ones(3, 2), 4)
    with pytest.raises(ValueError, match="NaN or infinity"):
        kmeans(torch.tensor([[1.0], [torch.nan], [2.0]]), 2)
    with pytest.raises(ValueError, match="not empty"):
        kmeans(torch.ones(0, 2), 1)
    with pytest.raises(ValueError, match=r"seeds are \[2, 2\]"):
        kmeans(torch.ones(3, 2), 2, seeds=torch.ones(2, 3))
