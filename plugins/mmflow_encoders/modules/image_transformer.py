"""The module of `vit`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import all_real


class ImageTransformer(nn.Module):
    """Patches, class token, learned positions, blocks, final norm."""

    def __init__(
        self, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, pool: str, mean: float, std: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.side, self.pool, self.mean, self.std = size // patch, pool, mean, std
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.positions = nn.Parameter(torch.empty(1, self.side**2 + (pool == "cls"), width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialize(self)

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        x = self.patches((image - self.mean) / self.std).flatten(2).transpose(1, 2)
        if self.classify is not None:
            x = torch.cat([self.classify.expand(len(x), -1, -1), x], dim=1)
        x = self.drop(x + self.positions)
        extra = x.shape[1] - self.side**2
        outputs: dict[str, Tensor | Tokens] = {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x, None)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = all_real(x[:, extra:])
        x = self.norm(x)
        tokens = x[:, extra:]
        outputs["pooled"] = x[:, 0] if self.pool == "cls" else tokens.mean(dim=1)
        outputs["tokens"] = all_real(tokens)
        outputs["grid"] = tokens.unflatten(1, (self.side, self.side))
        return outputs
