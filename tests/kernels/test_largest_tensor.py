"""The largest tensor that an operation beside the contrastive core makes on the CPU is a tile, forward and backward."""

import pytest
import torch

from mmflow.kernels import (
    gram_contrast,
    kmeans,
    knn_vote,
    max_sim_contrast,
    nearest_center,
    sample_contrast,
    sinkhorn,
    top_k,
    uniformity,
)

N = 2500
TILE = 16 << 20


def unit(*shape, seed=1):
    t = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(t, dim=-1).requires_grad_()


CASES = {
    "uniformity": lambda x, y: uniformity(x, backend="chunked"),
    "gram_contrast": lambda x, y: gram_contrast(x, (y, x.detach().flip(0)), backend="chunked"),
    "max_sim_contrast": lambda x, y: max_sim_contrast(x.view(N, 2, 4), y.view(N, 2, 4), backend="chunked"),
    "max_sim_contrast, soft": lambda x, y: max_sim_contrast(
        x.view(N, 2, 4), y.view(N, 2, 4), inner_temperature=0.1, backend="chunked"
    ),
    "sample_contrast": lambda x, y: sample_contrast(x.view(N, 2, 4), y.view(N, 2, 4), 5.0, 5.0, backend="chunked"),
    "sinkhorn": lambda x, y: sinkhorn(x, y, backend="chunked").rows,
    "top_k": lambda x, y: top_k(x, y, 10, backend="chunked").values,
    "knn_vote": lambda x, y: knn_vote(x, y, torch.arange(N) % 7, 10, backend="chunked"),
    "nearest_center": lambda x, y: nearest_center(x, y, backend="chunked")[1],
    "kmeans": lambda x, y: kmeans(x, 2000, iterations=1, seeds=y[:2000], backend="chunked").inertia,
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_larger_than_a_tile_is_made(name, largest_tensor):
    x, y = unit(N, 8), unit(N, 8, seed=2)
    with largest_tensor:
        value = CASES[name](x, y)
        if value.requires_grad:
            value.sum().backward()
    assert 0 < largest_tensor.bytes <= TILE < 4 * N * N
