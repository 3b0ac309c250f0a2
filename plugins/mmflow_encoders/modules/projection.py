"""The modules of `linear` and `mlp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


class Projection(nn.Module):
    """Base: vectors [N, D] give a tensor; tokens and grids give a named output."""

    l2norm: bool

    def forward(self, x: Tensor | Tokens) -> Any:
        if isinstance(x, Tokens):
            return {"tokens": Tokens(self._finished(x.values, x.mask), x.mask)}
        projected = self._finished(x, None)
        return {"grid": projected} if x.ndim == 4 else projected

    def _finished(self, x: Tensor, mask: Tensor | None) -> Tensor:
        projected = self.project(x, mask)
        return F.normalize(projected, dim=-1) if self.l2norm else projected

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        raise NotImplementedError


class LinearProjection(Projection):
    def __init__(self, width: int, dim: int, *, bias: bool, activation: str, l2norm: bool) -> None:
        super().__init__()
        self.l2norm = l2norm
        self.linear = nn.Linear(width, dim, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        initialize_linear(self.linear)

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.activation(self.linear(x))


class MultilayerProjection(Projection):
    def __init__(
        self, widths: Sequence[int], *, activation: str, norm: str, dropout: float, bias: bool, l2norm: bool
    ) -> None:
        super().__init__()
        self.l2norm = l2norm
        layers = len(widths) - 1
        self.linears = nn.ModuleList(nn.Linear(widths[i], widths[i + 1], bias=bias) for i in range(layers))
        self.linears.apply(initialize_linear)
        norms = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": MaskedBatchNorm}[norm]
        self.norms = nn.ModuleList(norms(widths[i + 1]) for i in range(layers - 1))
        self.between = nn.Sequential(ACTIVATIONS[activation](), nn.Dropout(dropout))
        self.over_batch = norm == "batch"

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for linear, norm in zip(self.linears, self.norms, strict=False):
            x = linear(x)
            x = self.between(norm(x, mask) if self.over_batch else norm(x))
        return self.linears[-1](x)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm (Ioffe and Szegedy, 2015) of the last axis over all others; only real tokens enter the statistics."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None or not self.training:
            return super().forward(input.flatten(0, -2)).unflatten(0, input.shape[:-1])
        weight = mask.unsqueeze(-1).to(input.dtype)
        count = weight.sum().clamp_min(1)
        dims = tuple(range(input.ndim - 1))
        mean = (input * weight).sum(dims) / count
        variance = ((input - mean).square() * weight).sum(dims) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                share = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), share)
                self.num_batches_tracked.add_(1)
        return (input - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


def initialize_linear(module: nn.Module) -> None:
    """Glorot's uniform weights and zero biases (Glorot and Bengio, 2010)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class SparseProjection(nn.Module):
    """Tokens [N, L, width] with their mask -> log(1 + relu(logits)) over the real ones, [N, dim]."""

    def __init__(self, width: int, dim: int | None, *, pool: str) -> None:
        super().__init__()
        self.pool = pool
        self.linear = nn.Identity() if dim is None else nn.Linear(width, dim)
        if isinstance(self.linear, nn.Linear):
            initialize_linear(self.linear)

    def forward(self, tokens: Tokens) -> Tensor:
        active = torch.log1p(F.relu(self.linear(tokens.values))) * tokens.mask.unsqueeze(-1)
        return active.amax(1) if self.pool == "max" else active.sum(1)
