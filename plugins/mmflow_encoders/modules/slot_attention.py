"""The module of `slots`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.sequences import all_real, as_tokens
from mmflow_encoders.modules.tower import Outputs

EPSILON = 1e-8


class SlotAttention(nn.Module):
    """Slots that compete for tokens, refined in iterations."""

    def __init__(self, *, channels: int, count: int, width: int, iterations: int, drawn: bool, hidden: int) -> None:
        super().__init__()
        self.count, self.iterations = count, iterations
        self.norm_input = nn.LayerNorm(channels)
        self.norm_slots = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(channels, width, bias=False)
        self.value = nn.Linear(channels, width, bias=False)
        self.update = nn.GRUCell(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.center = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1 if drawn else count, width)))
        self.log_spread = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, width))) if drawn else None

    def forward(self, sequence: Tensor | Tokens, taps: Sequence[str] = ()) -> Outputs:
        x, mask = as_tokens(sequence)
        x = self.norm_input(x)
        keys, values = self.key(x), self.value(x)
        slots = self._start(len(x)).to(x.dtype)
        shares = x.new_zeros(())
        for _ in range(self.iterations):
            scores = self.query(self.norm_slots(slots)) @ keys.transpose(1, 2) * slots.shape[-1] ** -0.5
            shares = scores.softmax(dim=1) * mask[:, None, :]
            weights = (shares + EPSILON) * mask[:, None, :]
            weights = weights / weights.sum(dim=2, keepdim=True).clamp_min(EPSILON)
            taken = weights @ values
            slots = self.update(taken.flatten(0, 1), slots.flatten(0, 1)).unflatten(0, slots.shape[:2])
            slots = slots + self.mlp(self.norm_mlp(slots))
        asked = {"attention.1": shares[:, None]} if "attention.1" in taps else {}
        return {"pooled": slots.mean(dim=1), "tokens": all_real(slots), **asked}

    def _start(self, rows: int) -> Tensor:
        if self.log_spread is None:
            return self.center.expand(rows, -1, -1)
        shape = (rows, self.count, self.center.shape[1])
        if self.training:
            noise = torch.randn(shape, device=self.center.device, dtype=self.center.dtype)
        else:
            # Evenly spaced quantiles of the Gaussian, the same in every dimension and for every row.
            share = (torch.arange(self.count, device=self.center.device, dtype=self.center.dtype) + 0.5) / self.count
            noise = torch.special.ndtri(share)[None, :, None].expand(shape)
        return self.center + self.log_spread.exp() * noise
