"""Search, votes of neighbors, and clusters."""

# Most peers come with the extra `bench`; those that are absent are named as skipped.
# pyright: reportMissingImports=false

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from .steps import Inputs, Operation, Step, rows

# search: 1024 queries, `size` vectors


def search_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    return {"q": rows(1024, d, 0, dtype, device).detach(), "g": rows(n, d, 1, dtype, device).detach()}


def search(inputs: Inputs) -> Step:
    from mmflow.kernels import top_k

    return lambda: {"scores": top_k(inputs["q"], inputs["g"], 10)[0]}


def search_plain(inputs: Inputs) -> Step:
    return lambda: {"scores": (inputs["q"] @ inputs["g"].T).topk(10, 1).values}


def search_faiss(inputs: Inputs) -> Step:
    import faiss

    index: Any = faiss.IndexFlatIP(inputs["g"].shape[1])
    index.add(inputs["g"].cpu().numpy())
    queries = inputs["q"].cpu().numpy()
    return lambda: {"scores": torch.from_numpy(index.search(queries, 10)[0])}


# votes of 20 neighbors: 1024 queries, `size` vectors of 100 classes


def vote_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    return search_inputs(n, d, dtype, device) | {"labels": torch.arange(n, device=device) % 100}


def vote(inputs: Inputs) -> Step:
    from mmflow.kernels import knn_vote

    return lambda: {"votes": knn_vote(inputs["q"], inputs["g"], inputs["labels"], 20, 100)}


def vote_plain(inputs: Inputs) -> Step:
    def step() -> dict[str, Tensor]:
        found = (inputs["q"] @ inputs["g"].T).topk(20, 1)
        return {"votes": _votes(found.values, inputs["labels"][found.indices])}

    return step


def vote_faiss(inputs: Inputs) -> Step:
    import faiss

    index: Any = faiss.IndexFlatIP(inputs["g"].shape[1])
    index.add(inputs["g"].float().cpu().numpy())
    queries, labels = inputs["q"].float().cpu().numpy(), inputs["labels"].cpu()

    def step() -> dict[str, Tensor]:
        values, indices = (torch.from_numpy(a) for a in index.search(queries, 20))
        return {"votes": _votes(values, labels[indices])}

    return step


def vote_sklearn(inputs: Inputs) -> Step:
    from sklearn.neighbors import KNeighborsClassifier

    # of unit vectors: the similarity is 1 - distance^2 / 2
    weights: Any = lambda d: math.e ** ((1 - d**2 / 2) / 0.07)  # noqa: E731
    voter = KNeighborsClassifier(20, weights=weights, algorithm="brute")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        voter.fit(inputs["g"].float().cpu().numpy(), inputs["labels"].cpu().numpy())
    queries = inputs["q"].float().cpu().numpy()
    return lambda: {"votes": torch.from_numpy(voter.predict_proba(queries))}


def _votes(values: Tensor, labels: Tensor) -> Tensor:
    votes = values.new_zeros(len(values), 100).scatter_add_(1, labels, torch.softmax(values / 0.07, 1))
    return votes / votes.sum(1, keepdim=True)


# k-means: 10 iterations from given seeds, 256 clusters


def cluster_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    x = rows(n, d, 0, dtype, device).detach()
    return {"x": x, "seeds": x[: min(256, n // 2)].clone()}


def kmeans(inputs: Inputs) -> Step:
    from mmflow.kernels import kmeans

    x, seeds = inputs["x"], inputs["seeds"]
    return lambda: {"centers": kmeans(x, len(seeds), iterations=10, tolerance=0.0, seeds=seeds).centers}


def kmeans_plain(inputs: Inputs) -> Step:
    x, seeds = inputs["x"], inputs["seeds"]
    ones = x.new_ones(len(x))

    def step() -> dict[str, Tensor]:
        centers = seeds
        for _ in range(10):
            labels = torch.cdist(x, centers).argmin(1)
            counts = x.new_zeros(len(seeds)).index_add_(0, labels, ones).clamp_min_(1)
            centers = torch.zeros_like(seeds).index_add_(0, labels, x) / counts[:, None]
        torch.cdist(x, centers).argmin(1)
        return {"centers": centers}

    return step


def kmeans_faiss(inputs: Inputs) -> Step:
    import faiss

    x, seeds = inputs["x"].float().cpu().numpy(), inputs["seeds"].float().cpu().numpy()

    def step() -> dict[str, Tensor]:
        # all rows, none sampled
        settings: Any = {"niter": 10, "min_points_per_centroid": 1, "max_points_per_centroid": len(x)}
        search = faiss.Kmeans(x.shape[1], len(seeds), **settings)
        search.train(x, init_centroids=seeds)
        centers: Any = search.centroids
        search.assign(x)
        return {"centers": torch.from_numpy(centers)}

    return step


def kmeans_sklearn(inputs: Inputs) -> Step:
    from sklearn.cluster import KMeans

    x, seeds = inputs["x"].float().cpu().numpy(), inputs["seeds"].float().cpu().numpy()

    def step() -> dict[str, Tensor]:
        settings: Any = {"init": seeds, "n_init": 1, "max_iter": 10, "tol": 0.0, "algorithm": "lloyd"}
        search = KMeans(len(seeds), **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(x)
        return {"centers": torch.from_numpy(search.cluster_centers_)}

    return step


_XY, _SIGMOID = ("x", "y", "scale"), ("x", "y", "scale", "bias")


OPERATIONS = {
    "top_k": Operation(
        (100_000,),
        search_inputs,
        {"mmflow": search, "PyTorch, product and topk": search_plain, "faiss": search_faiss},
        dim=256,
    ),
    "knn_vote": Operation(
        (100_000,),
        vote_inputs,
        {
            "mmflow": vote,
            "PyTorch, product and topk": vote_plain,
            "faiss": vote_faiss,
            "scikit-learn": vote_sklearn,
        },
        dim=256,
    ),
    "kmeans": Operation(
        (20_000,),
        cluster_inputs,
        {
            "mmflow": kmeans,
            "PyTorch, all distances": kmeans_plain,
            "faiss": kmeans_faiss,
            "scikit-learn": kmeans_sklearn,
        },
        dim=128,
    ),
}
