"""The module of `video_transformer`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding, Tokens
from mmflow_encoders.modules.attention import Attention, Block, Maps, attention_mask, through
from mmflow_encoders.modules.image_transformer import grid_positions
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.pooling import LatentPool
from mmflow_encoders.modules.sequences import masked_mean
from mmflow_encoders.modules.tower import Outputs


class VideoTransformer(nn.Module):
    """A tower over the patches of each frame, messages between frames, and a joining of the frames."""

    def __init__(
        self, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, pool: str, mean: float, std: float, aggregate: str, layers: int, frames: int,
        cross_frame: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mean, self.std = mean, std
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.positions = nn.Parameter(torch.empty(1, (size // patch) ** 2 + (pool == "cls"), width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.messages = nn.ModuleList(Messages(width, heads, dropout) for _ in range(depth)) if cross_frame else None
        self.norm = nn.LayerNorm(width)
        self.joining = Joining(
            aggregate, width=width, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout, layers=layers, frames=frames
        )
        initialize(self)

    def forward(self, video: Tensor | Encoding, taps: Sequence[str] = ()) -> Outputs:
        images, mask = frames_of(video)
        rows, count = mask.shape
        grid = self.patches((images.flatten(0, 1) - self.mean) / self.std)
        height, width = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        if self.classify is not None:
            x = torch.cat([self.classify.expand(len(x), -1, -1), x], dim=1)
        x = self.drop(x + grid_positions(self.positions, height, width, leading=self.classify is not None))
        outputs: Outputs = {}
        for number, block in enumerate(self.blocks, 1):
            if self.messages is None:
                x = block(x, None)
            else:
                message = self.messages[number - 1](self._vectors(x).unflatten(0, (rows, count)), mask)
                x = block(torch.cat([x, message.flatten(0, 1)[:, None]], dim=1), None)[:, :-1]
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = Tokens(self._vectors(x).unflatten(0, (rows, count)), mask)
        frames = self._vectors(self.norm(x)).unflatten(0, (rows, count)) * mask[:, :, None]
        maps: Maps = {}
        pooled, tokens = self.joining(frames, mask, taps, maps)
        return {"pooled": pooled, "tokens": Tokens(tokens, mask), **outputs, **maps}

    def _vectors(self, x: Tensor) -> Tensor:
        """One vector a frame: [N * F, L, D] -> [N * F, D]."""
        return x.mean(dim=1) if self.classify is None else x[:, 0]


class Messages(nn.Module):
    """One message token a frame, which attends to those of all frames: [N, F, D] -> [N, F, D]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        message = self.project(vectors)
        return message + self.attention(self.norm(message), None, attention_mask(mask))


class Joining(nn.Module):
    """Frames [N, F, D] with a mask joined to [N, D]; returns the frames as the joining leaves them too."""

    def __init__(
        self, kind: str, *, width: int, heads: int, mlp_ratio: float, dropout: float, layers: int, frames: int
    ) -> None:
        super().__init__()
        self.kind = kind
        positioned = kind in ("transformer", "attention")
        self.positions = nn.Parameter(torch.empty(1, frames, width)) if positioned else None
        blocks = layers if kind == "transformer" else 0
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(blocks))
        self.pooling = LatentPool(width, heads, mlp_ratio) if kind == "attention" else None
        self.gate = GatedWeights(width) if kind == "gated" else None

    def forward(self, x: Tensor, mask: Tensor, taps: Collection[str], maps: Maps) -> tuple[Tensor, Tensor]:
        placed = x
        if self.positions is not None:
            if x.shape[1] > self.positions.shape[1]:
                raise ValueError(f"videos of {x.shape[1]} frames; the encoder's `frames` is {self.positions.shape[1]}")
            placed = x + self.positions[:, : x.shape[1]]
        if self.pooling is not None:
            return self.pooling(placed, mask, maps if "frames.1" in taps else None, "frames.1"), x
        if self.gate is not None:
            weights = self.gate(x, mask)
            if "frames.1" in taps:
                maps["frames.1"] = weights[:, None, None]
            return (weights[:, :, None] * x).sum(dim=1), x
        if self.kind == "transformer":
            asked = {name.replace("frames.", "attention.") for name in taps if name.startswith("frames.")}
            found, _, attended = through(self.blocks, placed, attention_mask(mask), asked)
            maps.update({name.replace("attention.", "frames."): value for name, value in attended.items()})
            x = (found + x) * mask[:, :, None]
        return masked_mean(x, mask), x


class GatedWeights(nn.Module):
    """Weights [N, F] of frames that sum to one over the real ones: softmax_t w . (tanh(V h_t) * sigmoid(U h_t))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content, self.gate, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(self.content(x).tanh() * self.gate(x).sigmoid()).squeeze(-1)
        hidden = ~mask & mask.any(dim=1, keepdim=True)
        return scores.masked_fill(hidden, -torch.inf).softmax(dim=1)


def frames_of(video: Tensor | Encoding) -> tuple[Tensor, Tensor]:
    """Frames [N, F, C, H, W] and which of them are present, bool [N, F]."""
    if isinstance(video, Tensor):
        return video, torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
    (images,) = video.outputs.values()
    present = video.present
    return images, torch.ones(images.shape[:2], dtype=torch.bool, device=images.device) if present is None else present
