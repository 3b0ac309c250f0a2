"""The module of `graph`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmflow_encoders.modules.attention import Attention
from mmflow_encoders.modules.projection import ACTIVATIONS, initialize_linear


class GraphNetwork(nn.Module):
    """Layers over typed edges, joined in each layer or by attention over types."""

    def __init__(
        self, *, channels: int, types: int, width: int, layers: int, neighbors: str, by_attention: bool, share: bool,
        loops: bool, heads: int, activation: str, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.neighbors, self.loops, self.share = neighbors, loops, share
        widths = [channels, *[width] * layers]
        own = 1 if share else types

        def stack() -> nn.ModuleList:
            pairs = pairwise(widths)
            return nn.ModuleList(Neighbors(a, b, heads if neighbors == "attention" else 0) for a, b in pairs)

        self.stacks = nn.ModuleList(stack() for _ in range(own))
        self.selves = None
        self.paths = None
        if by_attention:
            self.paths = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        else:
            self.selves = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.activation = ACTIVATIONS[activation]()
        self.drop = nn.Dropout(dropout)
        self.apply(initialize_linear)

    def forward(self, x: Tensor, *edges: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        adjacency = [self._prepared(matrix.to(x.dtype)) for matrix in edges]
        pooled, weights = self._summed(x, adjacency) if self.paths is None else self._joined(x, adjacency)
        asked = {"paths": weights.expand(len(x), -1)} if "paths" in taps else {}
        return {"pooled": pooled, **asked}

    def _summed(self, x: Tensor, adjacency: list[Tensor]) -> tuple[Tensor, Tensor]:
        assert self.selves is not None
        for number, own in enumerate(self.selves):
            if number:
                x = self.activation(x)
            x = self.drop(x)
            total = own(x)
            for stack, matrix in zip(self.stacks, adjacency, strict=True):
                total = total + stack[number](x, matrix)  # type: ignore[index]
            x = total
        return x, x.new_full((len(adjacency),), 1 / len(adjacency))

    def _joined(self, x: Tensor, adjacency: list[Tensor]) -> tuple[Tensor, Tensor]:
        assert self.paths is not None
        stacks = list(self.stacks) * (len(adjacency) if self.share else 1)
        found = torch.stack([self._through(stack, x, a) for stack, a in zip(stacks, adjacency, strict=True)])
        weights = self.paths(found).mean(dim=1).softmax(dim=0)
        return (weights[:, None] * found).sum(dim=0), weights.squeeze(-1)

    def _through(self, stack: nn.Module, x: Tensor, matrix: Tensor) -> Tensor:
        for number, layer in enumerate(stack.children()):
            x = layer(self.drop(self.activation(x) if number else x), matrix)
        return x

    def _prepared(self, matrix: Tensor) -> Tensor:
        """The matrix that a layer multiplies by; for attention a mask of the allowed pairs."""
        own = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        if self.neighbors == "attention":
            # A node without a neighbor would have nothing to attend to.
            alone = (matrix == 0).all(dim=1, keepdim=True)
            return (matrix != 0) | ((own > 0) & (alone | self.loops))
        matrix = matrix + own if self.loops else matrix
        degree = matrix.sum(dim=1, keepdim=True)
        if self.neighbors == "mean":
            return matrix / degree.clamp_min(torch.finfo(matrix.dtype).tiny)
        if self.neighbors == "symmetric":
            scale = torch.where(degree > 0, degree, torch.inf).rsqrt()
            return scale * matrix * scale.T
        return matrix


class Neighbors(nn.Module):
    """One layer over one type of edge: a linear map and a weighted sum over neighbors, or attention to them."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width)
        self.attention = Attention(width, heads, 0.0) if heads else None

    def forward(self, x: Tensor, matrix: Tensor) -> Tensor:
        x = self.linear(x)
        if self.attention is None:
            return matrix @ x
        return self.attention(x[None], None, matrix[None, None])[0]
