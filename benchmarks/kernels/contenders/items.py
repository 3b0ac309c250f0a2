"""Scores of items that are more than one vector, plans, alignments and volumes."""

# Most peers come with the extra `bench`; those that are absent are named as skipped.
# pyright: reportMissingImports=false

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .steps import Inputs, Operation, Step, pair_inputs, rows, scalar, trained

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


def sinkhorn_scaling(inputs: Inputs) -> Step:
    """The scaling form on the exponentiated scores, less their maximum; float32 may underflow at small epsilon."""

    def step() -> dict[str, Tensor]:
        scores = inputs["scores"]
        kernel = ((scores - scores.amax()) / 0.05).exp_()
        u = scores.new_ones(len(scores))
        for _ in range(50):
            v = 1 / scores.shape[1] / (kernel.T @ u)
            u = 1 / len(scores) / (kernel @ v)
        return {"rows": u.log() * 0.05}

    return step


def sinkhorn_pot(inputs: Inputs) -> Step:
    import ot

    cost = (-inputs["scores"]).numpy()

    def step() -> dict[str, Tensor]:
        ot.sinkhorn([], [], cost, 0.05, numItermax=50, stopThr=0, warn=False)
        return {}

    return step


def sinkhorn_geomloss(inputs: Inputs) -> Step:
    from geomloss import ot

    cost = 1 - inputs["scores"]

    def step() -> dict[str, Tensor]:
        ot.solve(cost, reg=0.05, max_iter=50)
        return {}

    return step


# codes of a batch over 3000 prototypes, 3 iterations at epsilon 0.05


def code_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    features, prototypes = (rows(size, d, k, dtype, device).detach() for k, size in enumerate((n, 3000)))
    return {"scores": features @ prototypes.T}


def codes(inputs: Inputs) -> Step:
    from mmflow.kernels import assignment
    from mmflow.kernels import sinkhorn as potentials

    def step() -> dict[str, Tensor]:
        scores = inputs["scores"]
        return {"codes": assignment(scores, None, potentials(scores, epsilon=0.05, iterations=3))}

    return step


def codes_scaling(inputs: Inputs) -> Step:
    """The plan itself, divided by its row and column sums in turn."""

    def step() -> dict[str, Tensor]:
        plan = (inputs["scores"] / 0.05).exp_()
        n, k = plan.shape
        plan /= plan.sum()
        for _ in range(3):
            plan /= plan.sum(0) * k
            plan /= plan.sum(1, keepdim=True) * n
        return {"codes": plan * n}

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


def soft_dtw_tslearn(inputs: Inputs) -> Step:
    """The compiled loops of tslearn, one matrix after the other, value and alignment."""
    from tslearn.metrics import SoftDTW

    def step() -> dict[str, Tensor]:
        found = [SoftDTW(cost, 0.1) for cost in inputs["cost"].detach().double().numpy()]
        values = [warping.compute() for warping in found]
        slopes = [torch.from_numpy(warping.grad()) for warping in found]
        return {"loss": torch.tensor(values).sum(), "cost": torch.stack(slopes)}

    return step


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


_SAMPLES = ("x", "y", "scale", "shift")

OPERATIONS = {
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
        {
            "mmflow": sinkhorn,
            "scaling form": sinkhorn_scaling,
            "log-domain loop": sinkhorn_log_domain,
            "POT": sinkhorn_pot,
            "geomloss": sinkhorn_geomloss,
        },
        dim=256,
    ),
    "codes": Operation((256, 2048), code_inputs, {"mmflow": codes, "scaling form": codes_scaling}, dim=128),
    "soft_dtw": Operation(
        (8, 64),
        cost_inputs,
        {
            "mmflow": trained(soft_dtw, "cost"),
            "loop over cells": trained(soft_dtw_cells, "cost"),
            "tslearn": soft_dtw_tslearn,
        },
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
}
