"""The module of `audio_transformer`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import standardized, steps_of
from mmflow_encoders.modules.tower import Outputs, SequenceTower


class AudioTransformer(nn.Module):
    """Patches of a spectrogram, positions in time and frequency, a transformer."""

    def __init__(
        self, *, patch: int, bands: int, channels: int, length: int, width: int, depth: int, heads: int,
        mlp_ratio: float, dropout: float, pool: str, normalize: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.normalize = patch, normalize
        self.patches = nn.Conv2d(1, width, (patch, bands), (patch, bands))
        self.times = nn.Parameter(torch.empty(1, -(-length // patch), 1, width))
        self.bands = nn.Parameter(torch.empty(1, 1, channels // bands, width))
        self.tower = SequenceTower(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout, pool=pool
        )
        initialize(self)

    def forward(self, series: Tensor | Tokens, taps: Sequence[str] = ()) -> Outputs:
        x, mask = steps_of(series)
        x = x.to(self.times.dtype)
        x = standardized(x, mask) if self.normalize else x * mask.unsqueeze(-1)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.patch))
        x = self.patches(x.unsqueeze(1)).permute(0, 2, 3, 1)
        if x.shape[1] > self.times.shape[1]:
            raise ValueError(f"series of {mask.shape[1]} steps; the encoder's `length` is too small")
        x = (x + self.times[:, : x.shape[1]] + self.bands).flatten(1, 2)
        # A patch is real where its first step is.
        return self.tower(x, mask[:, :: self.patch].repeat_interleave(self.bands.shape[2], dim=1), taps)
