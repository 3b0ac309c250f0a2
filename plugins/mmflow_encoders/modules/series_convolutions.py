"""The module of `series_conv`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens
from mmflow_encoders.modules.sequences import masked_max, masked_mean, standardized, steps_of


class SeriesConvolutions(nn.Module):
    """Layers of convolution along time, layer norm over channels, GELU. Padding stays zero in all of them."""

    def __init__(
        self, *, channels: int, width: int, depth: int, kernel: int, stride: int, pool: str, normalize: bool,
        dilation: int, residual: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride, self.pool, self.normalize, self.residual = stride, pool, normalize, residual
        spans = [dilation**i for i in range(depth)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width if i else channels, width, kernel, stride, padding=kernel // 2 * span, dilation=span)
            for i, span in enumerate(spans)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def forward(self, series: Tensor | Tokens, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        x, mask = steps_of(series)
        x = x.to(next(self.parameters()).dtype)
        x = standardized(x, mask) if self.normalize else x * mask.unsqueeze(-1)
        outputs: dict[str, Tensor | Tokens] = {}
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), 1):
            mask = mask[:, :: self.stride]
            found = self.drop(F.gelu(norm(convolution(x.transpose(1, 2)).transpose(1, 2))))
            x = (x + found if self.residual and number > 1 else found) * mask.unsqueeze(-1)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = Tokens(x, mask)
        pooled = masked_mean(x, mask) if self.pool == "mean" else masked_max(x, mask)
        return {"pooled": pooled, "tokens": Tokens(x, mask), **outputs}
