"""The modules of `reconstruction_decoder` and `masked_autoencoder`, and the patches of an image as vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask, through
from mmflow_encoders.modules.image_transformer import grid_positions
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import all_real, as_tokens, masked_mean
from mmflow_encoders.modules.tower import Outputs
from mmflow_encoders.modules.visible import put_back, random_subset, take, visible_subset


class PatchDecoder(nn.Module):
    """Tokens at their places, a mask token at each other place, positions, blocks, and the values of each patch."""

    def __init__(
        self, *, channels: int, places: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float,
        values: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.hidden = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, places, width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, values)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """[N, L, C] and bool [N, L] -> [N, L, values]."""
        x = torch.where(visible[:, :, None], self.project(x), self.hidden) + self.positions
        x, _, _ = through(self.blocks, self.drop(x), None, ())
        return self.predict(self.norm(x))


class ReconstructionDecoder(nn.Module):
    """The module of `reconstruction_decoder`."""

    def __init__(self, decoder: PatchDecoder, *, patch: int, mean: float, std: float, normalize: bool) -> None:
        super().__init__()
        self.decoder, self.patch, self.mean, self.std, self.normalize = decoder, patch, mean, std, normalize
        initialize(self)

    def forward(self, encoded: Tensor | Tokens, image: Tensor | None = None) -> Outputs:
        places = self.decoder.positions.shape[1]
        x, visible = as_tokens(encoded)
        if isinstance(encoded, Tensor) and encoded.ndim == 2:
            x, visible = x.expand(-1, places, -1), visible.expand(-1, places)
        if x.shape[1] != places:
            raise ValueError(f"{x.shape[1]} tokens for {places} patches of the image; set `size` and `patch` to fit")
        outputs: Outputs = {"tokens": all_real(self.decoder(x, visible))}
        if image is not None:
            hidden = ~visible
            counted = torch.where(hidden.any(dim=1, keepdim=True), hidden, True)
            target = patches_of((image - self.mean) / self.std, self.patch, normalize=self.normalize)
            outputs["target"] = Tokens(target, counted)
        return outputs


class MaskedAutoencoder(nn.Module):
    """The module of `masked_autoencoder`: a tower over visible patches, and a decoder of all."""

    def __init__(
        self, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, pool: str, mean: float, std: float, ratio: float, normalize: bool, decoder: PatchDecoder,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.pool, self.mean, self.std = patch, pool, mean, std
        self.ratio, self.normalize = ratio, normalize
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.classify = nn.Parameter(torch.empty(1, 1, width)) if pool == "cls" else None
        self.positions = nn.Parameter(torch.empty(1, (size // patch) ** 2 + (pool == "cls"), width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.decoder = decoder
        initialize(self)

    def forward(self, image: Tensor, mask: Tensor | None = None, taps: Sequence[str] = ()) -> Outputs:
        image = (image - self.mean) / self.std
        grid = self.patches(image)
        length = grid.shape[2] * grid.shape[3]
        leading = self.classify is not None
        positions = grid_positions(self.positions, *grid.shape[2:], leading=leading)
        x = grid.flatten(2).transpose(1, 2) + positions[:, int(leading) :]
        index, real = self._visible(mask, x, length)
        x = take(x, index)
        known = real
        if self.classify is not None:
            first = (self.classify + positions[:, :1]).expand(len(x), -1, -1)
            x, known = torch.cat([first, x], dim=1), torch.cat([torch.ones_like(real[:, :1]), real], dim=1)
        x, states, maps = through(self.blocks, self.drop(x), attention_mask(known), taps)
        x = self.norm(x)
        extra = int(leading)
        values, visible = put_back(x[:, extra:], index, real, length)
        outputs: Outputs = {
            name: Tokens(*put_back(state[:, extra:], index, real, length)) for name, state in states.items()
        }
        outputs.update(maps)
        outputs["pooled"] = x[:, 0] if leading else masked_mean(x, real)
        outputs["tokens"] = Tokens(values, visible)
        if "reconstruction" in taps:
            outputs["reconstruction"] = Tokens(self.decoder(values, visible), ~visible)
        if "target" in taps:
            outputs["target"] = Tokens(patches_of(image, self.patch, normalize=self.normalize), ~visible)
        return outputs

    def _visible(self, mask: Tensor | None, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Places of the patches that the tower sees, [N, K], and which of them are real."""
        if mask is not None:
            hidden = mask.flatten(1).bool()
            if hidden.shape[1] != length:
                raise ValueError(f"a mask of {hidden.shape[1]} patches for an image of {length}")
            return visible_subset(hidden)
        count = max(1, length - round(self.ratio * length)) if self.training else length
        index = random_subset(len(x), length, count, x.device)
        return index, torch.ones_like(index, dtype=torch.bool)


def patches_of(image: Tensor, patch: int, *, normalize: bool) -> Tensor:
    """The patches of images [N, C, H, W] row by row as vectors [N, L, patch * patch * C], channels last.

    `normalize` brings each patch to mean 0 and variance 1 (He et al., 2022).
    """
    rows = image.unflatten(2, (-1, patch)).unflatten(4, (-1, patch))
    found = rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    if not normalize:
        return found
    variance = found.var(dim=-1, keepdim=True)
    return (found - found.mean(dim=-1, keepdim=True)) * (variance + 1e-6).rsqrt()
