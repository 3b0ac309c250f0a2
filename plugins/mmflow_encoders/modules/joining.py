"""The modules of `gated` and `product`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding
from mmflow_encoders.modules.projection import ACTIVATIONS, initialize_linear


class Gates(nn.Module):
    """A sum of projected vectors, weighted by gates that read all of them."""

    def __init__(self, *, widths: Sequence[int], width: int, per_dimension: bool) -> None:
        super().__init__()
        self.values = nn.ModuleList(nn.Linear(own, width) for own in widths)
        self.gates = nn.ModuleList(nn.Linear(sum(widths), width if per_dimension else 1) for _ in widths)
        self.apply(initialize_linear)

    def forward(self, *inputs: Encoding) -> dict[str, Tensor]:
        given = [_zero_where_absent(encoding) for encoding in inputs]
        together = torch.cat([x for x, _ in given], dim=-1)
        logits = torch.stack([gate(together) for gate in self.gates])
        here = torch.stack([present for _, present in given])[..., None]
        # Where all are absent the gates are equal; the result is not read.
        logits = logits.masked_fill(~here & here.any(dim=0), -torch.inf)
        gates = logits.softmax(dim=0)
        values = torch.stack([value(x).tanh() for value, (x, _) in zip(self.values, given, strict=True)])
        return {"pooled": (gates * values).sum(dim=0), "gates": gates.mean(dim=-1).movedim(0, -1)}


class ProductOf(nn.Module):
    """The elementwise product of vectors, each projected where `dim` says so."""

    def __init__(self, *, widths: Sequence[int], dim: int | None, activation: str, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.projections = nn.ModuleList(nn.Linear(own, dim) if dim else nn.Identity() for own in widths)
        self.activation = ACTIVATIONS[activation]() if dim else nn.Identity()
        self.projections.apply(initialize_linear)

    def forward(self, *inputs: Tensor) -> Tensor:
        found: Tensor | None = None
        for x, project in zip(inputs, self.projections, strict=True):
            factor = self.activation(project(x))
            found = factor if found is None else found * factor
        assert found is not None
        return self.scale * found


def _zero_where_absent(encoding: Encoding) -> tuple[Tensor, Tensor]:
    """The pooled vectors with zeros for absent rows, and bool [N] of those that are present."""
    x, present = encoding.pooled, encoding.present
    if present is None:
        return x, torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    return x.masked_fill(~present.unsqueeze(-1), 0), present
