"""The module of `series_conv`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens


class ConvolutionsInTime(nn.Module):
    """Layers of convolution along time, layer norm over channels, GELU. Padding stays zero in all of them."""

    def __init__(
        self, *, channels: int, width: int, depth: int, kernel: int, stride: int, pool: str, normalize: bool
    ) -> None:
        super().__init__()
        self.stride, self.pool, self.normalize = stride, pool, normalize
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width if i else channels, width, kernel, stride, padding=kernel // 2) for i in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))

    def forward(self, series: Tensor | Tokens, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        values, mask = series if isinstance(series, Tokens) else (series, None)
        x = values if values.ndim == 3 else values.unsqueeze(-1)
        x = x.to(next(self.parameters()).dtype)
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        x = normalized(x, mask) if self.normalize else x * mask.unsqueeze(-1)
        outputs: dict[str, Tensor | Tokens] = {}
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), 1):
            mask = mask[:, :: self.stride]
            x = nn.functional.gelu(norm(convolution(x.transpose(1, 2)).transpose(1, 2)))
            x = x * mask.unsqueeze(-1)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = Tokens(x, mask)
        return {"pooled": self._pooled(x, mask), "tokens": Tokens(x, mask), **outputs}

    def _pooled(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pool == "mean":
            return x.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        # A row of padding alone has no largest token; it gets zeros, as in the mean.
        largest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
        return torch.where(mask.any(1, keepdim=True), largest, 0.0)


def normalized(x: Tensor, mask: Tensor) -> Tensor:
    """Rows of `x` [N, T, C] with mean 0 and standard deviation 1 over the steps in `mask` [N, T]; 0 elsewhere."""
    real = mask.unsqueeze(-1).to(x.dtype)
    count = (real.sum(1, keepdim=True) * x.shape[-1]).clamp_min(1)
    centered = (x - (x * real).sum((1, 2), keepdim=True) / count) * real
    return centered * ((centered**2).sum((1, 2), keepdim=True) / count + 1e-6).rsqrt()
