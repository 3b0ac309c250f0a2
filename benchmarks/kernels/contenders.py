"""What is compared: for each operation its sizes, its inputs, and everybody who computes it.

A contender is a function of the inputs that returns a zero-argument step, forward and backward where there is one. A
step returns what it computed, by name, for the comparison with the first contender run in float64.
"""

# Most peers come with the extra `bench`; those that are absent are named as skipped.
# pyright: reportMissingImports=false

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Inputs = dict[str, Any]
Step = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Operation:
    """Attributes:
    sizes: default sizes on the CPU.
    inputs: (size, dim, dtype, device) -> inputs, the same for every contender.
    contenders: by name; "mmflow" comes first.
    largest: sizes above this are not run by the contenders named (memory of its square or cube).
    """

    sizes: tuple[int, ...]
    inputs: Callable[[int, int, torch.dtype, str], Inputs]
    contenders: dict[str, Callable[[Inputs], Step]]
    dim: int = 512
    largest: dict[str, int] = field(default_factory=dict)


def trained(loss: Callable[..., Tensor], *names: str) -> Callable[[Inputs], Step]:
    """A contender that computes a loss of the inputs `names` and the gradients of those that want one."""

    def build(inputs: Inputs) -> Step:
        arguments = [inputs[name] for name in names]
        wanted = {n: t for n, t in zip(names, arguments, strict=True) if isinstance(t, Tensor) and t.requires_grad}

        def step() -> dict[str, Tensor]:
            for tensor in wanted.values():
                tensor.grad = None
            value = loss(*arguments)
            value.backward()
            return {"loss": value.detach()} | {n: t.grad for n, t in wanted.items() if t.grad is not None}

        return step

    return build


def compiled(loss: Callable[..., Tensor], *names: str) -> Callable[[Inputs], Step]:
    return lambda inputs: trained(torch.compile(loss, dynamic=False), *names)(inputs)


@contextmanager
def precision(word: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def medium(build: Callable[[Inputs], Step]) -> Callable[[Inputs], Step]:
    """The same under torch's float32 matmul precision `medium`."""

    def built(inputs: Inputs) -> Step:
        step = build(inputs)

        def run() -> dict[str, Tensor]:
            with precision("medium"):
                return step()

        return run

    return built


def rows(n: int, d: int, seed: int, dtype: torch.dtype, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator), dim=1).to(device, dtype).requires_grad_()


def scalar(value: float, device: str) -> Tensor:
    return torch.tensor(value, device=device, requires_grad=True)


def pair_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    return {
        "x": rows(n, d, 0, dtype, device),
        "y": rows(n, d, 1, dtype, device),
        "scale": scalar(14.3, device),
        "bias": scalar(-10.0, device),
    }


# InfoNCE


def info_nce(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from mmflow.kernels import info_nce

    return info_nce(x, y, temperature=1 / scale)


def info_nce_one_matrix(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits = (scale.to(x.dtype) * x) @ y.T
    here = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2


def clip_loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from open_clip.loss import ClipLoss

    value = ClipLoss()(x, y, scale.to(x.dtype))
    assert isinstance(value, Tensor)
    return value


def symmetric_ranking(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Sentence-transformers' symmetric ranking loss; its scale is a number, so that it gives no gradient for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.losses import (  # pyright: ignore[reportMissingImports]
            MultipleNegativesSymmetricRankingLoss,
        )
        from sentence_transformers.util import dot_score

    model: Any = torch.nn.Identity()
    return MultipleNegativesSymmetricRankingLoss(model, scale.item(), dot_score).compute_loss_from_embeddings(
        [x, y], torch.empty(0)
    )


def liger_linear_cross_entropy(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Liger's fused linear cross-entropy, one call for each direction."""
    if not x.is_cuda:
        raise NotImplementedError("needs a CUDA device")
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss, here = LigerFusedLinearCrossEntropyLoss(), torch.arange(len(x), device=x.device)
    scaled = x * scale.to(x.dtype)
    return (loss(y, scaled, here) + loss(x, y * scale.to(x.dtype), here)) / 2


# the sigmoid loss


def sigmoid_contrast(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    from mmflow.kernels import sigmoid_contrast

    return sigmoid_contrast(x, y, temperature=1 / scale, bias=bias)


def sigmoid_one_matrix(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = (scale.to(x.dtype) * x) @ y.T + bias.to(x.dtype)
    sign = 2 * torch.eye(len(x), device=x.device, dtype=x.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(x)


def siglip_loss(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    from open_clip.loss import SigLipLoss

    value = SigLipLoss()(x, y, scale.to(x.dtype), bias.to(x.dtype))
    assert isinstance(value, Tensor)
    return value


# NT-Xent over two views


def nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from mmflow.kernels import sup_con

    # the others normalize inside, so that their gradients pass through it
    return sup_con(
        F.normalize(torch.cat([x, y]), dim=1), torch.arange(len(x), device=x.device).repeat(2), temperature=0.1
    )


def lightly_nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=0.1)(x, y)


def metric_learning_nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from pytorch_metric_learning.losses import NTXentLoss

    return NTXentLoss(temperature=0.1)(torch.cat([x, y]), torch.arange(len(x), device=x.device).repeat(2))


# soft targets


def taught_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    teachers = {"a": rows(n, d, 2, dtype, device).detach(), "b": rows(n, d, 3, dtype, device).detach()}
    return pair_inputs(n, d, dtype, device) | teachers


def soft_targets(x: Tensor, y: Tensor, scale: Tensor, a: Tensor, b: Tensor) -> Tensor:
    from mmflow.kernels import soft_contrast

    return soft_contrast(x, y, a, b, temperature=1 / scale, teacher_temperature=0.05)


def soft_targets_one_matrix(x: Tensor, y: Tensor, scale: Tensor, a: Tensor, b: Tensor) -> Tensor:
    logits, taught = (scale.to(x.dtype) * x) @ y.T, (a @ b.T) / 0.05
    return (F.cross_entropy(logits, taught.softmax(1)) + F.cross_entropy(logits.T, taught.T.softmax(1))) / 2


# late interaction


def token_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    x, y = rows(n * 49, d, 0, dtype, device).detach(), rows(n * 32, d, 1, dtype, device).detach()
    return {"x": x.view(n, 49, d).requires_grad_(), "y": y.view(n, 32, d).requires_grad_()}


def late_interaction(x: Tensor, y: Tensor) -> Tensor:
    from mmflow.kernels import max_sim

    forward, backward = max_sim(x, y)
    return _clip_of(forward / 0.07, backward / 0.07)


def late_interaction_plain(x: Tensor, y: Tensor) -> Tensor:
    scores = torch.einsum("npd,mtd->nmpt", x, y)
    return _clip_of(scores.amax(3).mean(2) / 0.07, scores.amax(2).mean(2) / 0.07)


def _clip_of(forward: Tensor, backward: Tensor) -> Tensor:
    here = torch.arange(len(forward), device=forward.device)
    return (F.cross_entropy(forward, here) + F.cross_entropy(backward.T, here)) / 2


# Sinkhorn, 50 iterations at epsilon 0.05 over scores that everybody is given


def score_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    x, y = rows(n, d, 0, dtype, device), rows(n, d, 1, dtype, device)
    return {"scores": (x @ y.T).detach()}


def sinkhorn(inputs: Inputs) -> Step:
    from mmflow.kernels import sinkhorn as potentials

    def step() -> dict[str, Tensor]:
        found = potentials(inputs["scores"], epsilon=0.05, iterations=50)
        return {"rows": found.rows - found.rows.mean(), "columns": found.columns - found.columns.mean()}

    return step


def sinkhorn_log_domain(inputs: Inputs) -> Step:
    scores = inputs["scores"] / 0.05
    n = len(scores)

    def step() -> dict[str, Tensor]:
        f, g = scores.new_zeros(n), scores.new_zeros(n)
        level = -torch.log(torch.tensor(float(n)))
        for _ in range(50):
            g = level - torch.logsumexp(scores + f[:, None], 0)
            f = level - torch.logsumexp(scores + g, 1)
        return {"rows": 0.05 * (f - f.mean()), "columns": 0.05 * (g - g.mean())}

    return step


def sinkhorn_geomloss(inputs: Inputs) -> Step:
    from geomloss import ot

    cost = 1 - inputs["scores"]

    def step() -> dict[str, Tensor]:
        ot.solve(cost, reg=0.05, max_iter=50)
        return {}

    return step


# soft-DTW over a batch of 32 x 32 costs


def cost_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    cost = torch.rand(n, 32, 32, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return {"cost": cost.requires_grad_()}


def soft_dtw(cost: Tensor) -> Tensor:
    from mmflow.kernels import soft_dtw

    return soft_dtw(cost, 0.1).sum()


def soft_dtw_cells(cost: Tensor) -> Tensor:
    n, t, u = cost.shape
    table = {(0, 0): cost.new_zeros(n)}
    far = cost.new_full((n,), 1e8)
    for i in range(1, t + 1):
        for j in range(1, u + 1):
            before = torch.stack([table.get(k, far) for k in ((i - 1, j), (i, j - 1), (i - 1, j - 1))])
            table[i, j] = cost[:, i - 1, j - 1] - 0.1 * torch.logsumexp(-before / 0.1, 0)
    return table[t, u].sum()


# Gram volume of four modalities


def gram_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    return {name: rows(n, d, k, dtype, device) for k, name in enumerate("abce")}


def gram(a: Tensor, b: Tensor, c: Tensor, e: Tensor) -> Tensor:
    from mmflow.kernels import gram_contrast

    value = gram_contrast(a, (b, c, e), temperature=0.07)
    assert isinstance(value, Tensor)
    return value


def gram_determinants(a: Tensor, b: Tensor, c: Tensor, e: Tensor) -> Tensor:
    n = len(a)
    others = [b, c, e]
    rows_of = [[(a * a).sum(1)[:, None].expand(n, n), *(a @ v.T for v in others)]]
    for k, v in enumerate(others):
        rows_of.append([rows_of[0][k + 1], *((v * w).sum(1)[None].expand(n, n) for w in others)])
    grams = torch.stack([torch.stack(row, -1) for row in rows_of], -2)
    volume = grams.det().clamp_min(1e-8).sqrt()
    return _clip_of(-volume / 0.07, -volume / 0.07)


# uniformity of one batch


def uniformity(x: Tensor) -> Tensor:
    from mmflow.kernels import uniformity

    return uniformity(x)


def uniformity_pairs(x: Tensor) -> Tensor:
    return torch.pdist(x).square().mul(-2.0).exp().mean().log()


def uniformity_one_matrix(x: Tensor) -> Tensor:
    norms = x.square().sum(1)
    e = -2.0 * (norms[:, None] + norms - 2 * (x @ x.T)).clamp_min(0.0)
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.logsumexp(e.masked_fill(own, -torch.inf).flatten(), 0) - math.log(len(x) * (len(x) - 1))


# the soft contrastive loss over seven samples an item


def sample_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    x, y = rows(n * 7, d, 0, dtype, device).detach(), rows(n * 7, d, 1, dtype, device).detach()
    return {
        "x": x.view(n, 7, d).requires_grad_(),
        "y": y.view(n, 7, d).requires_grad_(),
        "scale": scalar(5.0, device),
        "shift": scalar(5.0, device),
    }


def sample_distance(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    from mmflow.kernels import sample_contrast

    return sample_contrast(x, y, scale, shift)


def sample_differences(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """All differences of samples written out, [N, M, J, K, D]."""
    distance = ((x[:, None, :, None] - y[None, :, None]).square().sum(-1) + 1e-6).sqrt()
    return _soft_contrast(2 * (shift - scale * distance).flatten(2))


def sample_products(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """All distances from one product, [N, M, J, K]."""
    squared = x.square().sum(2)[:, None, :, None] + y.square().sum(2)[:, None] - 2 * torch.einsum("njd,mkd->nmjk", x, y)
    return _soft_contrast(2 * (shift - scale * (squared.clamp_min(0.0) + 1e-6).sqrt()).flatten(2))


def _soft_contrast(score: Tensor) -> Tensor:
    count = math.log(score.shape[2])
    match, no_match = torch.logsumexp(F.logsigmoid(score), 2) - count, torch.logsumexp(F.logsigmoid(-score), 2) - count
    return -(match.diagonal().sum() + no_match.sum() - no_match.diagonal().sum())


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
_SAMPLES = ("x", "y", "scale", "shift")
_TAUGHT = ("x", "y", "scale", "a", "b")

OPERATIONS = {
    "info_nce": Operation(
        (1024, 4096, 8192, 16384),
        pair_inputs,
        {
            "mmflow": trained(info_nce, *_XY),
            "mmflow, medium": medium(trained(info_nce, *_XY)),
            "open_clip ClipLoss": trained(clip_loss, *_XY),
            "PyTorch, one matrix": trained(info_nce_one_matrix, *_XY),
            "torch.compile, one matrix": compiled(info_nce_one_matrix, *_XY),
            "sentence-transformers": trained(symmetric_ranking, *_XY),
            "liger-kernel": trained(liger_linear_cross_entropy, *_XY),
        },
        largest={"sentence-transformers": 8192},
    ),
    "sigmoid_contrast": Operation(
        (1024, 4096, 8192, 16384),
        pair_inputs,
        {
            "mmflow": trained(sigmoid_contrast, *_SIGMOID),
            "mmflow, medium": medium(trained(sigmoid_contrast, *_SIGMOID)),
            "open_clip SigLipLoss": trained(siglip_loss, *_SIGMOID),
            "PyTorch, one matrix": trained(sigmoid_one_matrix, *_SIGMOID),
            "torch.compile, one matrix": compiled(sigmoid_one_matrix, *_SIGMOID),
        },
    ),
    "nt_xent": Operation(
        (256, 1024, 4096),
        pair_inputs,
        {
            "mmflow": trained(nt_xent, "x", "y"),
            "lightly": trained(lightly_nt_xent, "x", "y"),
            "pytorch-metric-learning": trained(metric_learning_nt_xent, "x", "y"),
        },
        largest={"pytorch-metric-learning": 256},
    ),
    "soft_contrast": Operation(
        (1024, 4096),
        taught_inputs,
        {
            "mmflow": trained(soft_targets, *_TAUGHT),
            "PyTorch, one matrix each": trained(soft_targets_one_matrix, *_TAUGHT),
            "torch.compile, one matrix each": compiled(soft_targets_one_matrix, *_TAUGHT),
        },
    ),
    "max_sim": Operation(
        (64, 128, 256),
        token_inputs,
        {
            "mmflow": trained(late_interaction, "x", "y"),
            "PyTorch, all pairs": trained(late_interaction_plain, "x", "y"),
        },
        dim=256,
    ),
    "sinkhorn": Operation(
        (512, 2048, 4096),
        score_inputs,
        {"mmflow": sinkhorn, "log-domain loop": sinkhorn_log_domain, "geomloss": sinkhorn_geomloss},
        dim=256,
    ),
    "soft_dtw": Operation(
        (8, 64), cost_inputs, {"mmflow": trained(soft_dtw, "cost"), "loop over cells": trained(soft_dtw_cells, "cost")}
    ),
    "gram": Operation(
        (256, 1024),
        gram_inputs,
        {
            "mmflow": trained(gram, "a", "b", "c", "e"),
            "batched determinants": trained(gram_determinants, "a", "b", "c", "e"),
        },
        dim=256,
    ),
    "uniformity": Operation(
        (1024, 4096),
        pair_inputs,
        {
            "mmflow": trained(uniformity, "x"),
            "PyTorch, pdist": trained(uniformity_pairs, "x"),
            "PyTorch, one matrix": trained(uniformity_one_matrix, "x"),
        },
        dim=256,
    ),
    "sample_distance": Operation(
        (64, 256),
        sample_inputs,
        {
            "mmflow": trained(sample_distance, *_SAMPLES),
            "PyTorch, all distances": trained(sample_products, *_SAMPLES),
            "PyTorch, all differences": trained(sample_differences, *_SAMPLES),
        },
        dim=256,
        largest={"PyTorch, all differences": 64},
    ),
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
