"""The module of `vit`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, Maps, through
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.pooling import LatentPool
from mmflow_encoders.modules.sequences import all_real
from mmflow_encoders.modules.visible import put_back, random_subset, take


class ImageTransformer(nn.Module):
    """Patches, class token, learned positions, registers, blocks, final norm."""

    def __init__(
        self, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, pool: str, mean: float, std: float, registers: int = 0, patch_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pool, self.mean, self.std, self.patch_dropout = pool, mean, std, patch_dropout
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.positions = nn.Parameter(torch.empty(1, (size // patch) ** 2 + (pool == "cls"), width))
        self.registers = nn.Parameter(torch.empty(1, registers, width)) if registers else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pooling = LatentPool(width, heads, mlp_ratio) if pool == "attention" else None
        initialize(self)

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor | Tokens]:
        grid = self.patches((image - self.mean) / self.std)
        height, width = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        if self.classify is not None:
            x = torch.cat([self.classify.expand(len(x), -1, -1), x], dim=1)
        x = self.drop(x + grid_positions(self.positions, height, width, leading=self.classify is not None))
        if self.registers is not None:
            leading = x.shape[1] - height * width
            x = torch.cat([x[:, :leading], self.registers.expand(len(x), -1, -1), x[:, leading:]], dim=1)
        extra = x.shape[1] - height * width
        kept = self._kept(len(x), height * width, x.device)
        if kept is not None:
            x = torch.cat([x[:, :extra], take(x[:, extra:], kept)], dim=1)
        x, states, maps = through(self.blocks, x, None, taps)
        x = self.norm(x)
        tokens = self._placed(x[:, extra:], kept, height * width)
        outputs: dict[str, Tensor | Tokens] = {
            name: self._placed(state[:, extra:], kept, height * width) for name, state in states.items()
        }
        pooled = self._pooled(x, extra, taps, maps)
        grid = tokens.values.unflatten(1, (height, width))
        return {**outputs, **maps, "pooled": pooled, "tokens": tokens, "grid": grid}

    def _pooled(self, x: Tensor, extra: int, taps: Sequence[str], maps: Maps) -> Tensor:
        if self.pooling is not None:
            return self.pooling(x[:, extra:], maps=maps if "attention.pool" in taps else None, name="attention.pool")
        return x[:, 0] if self.pool == "cls" else x[:, extra:].mean(dim=1)

    def _kept(self, rows: int, length: int, device: torch.device) -> Tensor | None:
        """The patches of each row that this pass sees, None for all."""
        if not self.training or not self.patch_dropout:
            return None
        return random_subset(rows, length, max(1, round((1 - self.patch_dropout) * length)), device)

    @staticmethod
    def _placed(x: Tensor, kept: Tensor | None, length: int) -> Tokens:
        if kept is None:
            return all_real(x)
        return Tokens(*put_back(x, kept, torch.ones_like(kept, dtype=torch.bool), length))


def grid_positions(positions: Tensor, height: int, width: int, *, leading: bool) -> Tensor:
    """Positions [1, 1 + S * S, D] for a grid of another size: bicubic with antialiasing; the leading one stays."""
    first = int(leading)
    side = isqrt(positions.shape[1] - first)
    if (height, width) == (side, side):
        return positions
    grid = positions[:, first:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scaled = F.interpolate(grid, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:, :first], scaled.flatten(2).transpose(1, 2)], dim=1)
