"""Convolutional modules: torchvision's residual networks with taps, the four-block few-shot network, one along time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torchvision.models
from torch import Tensor, nn

from mmflow.plugin.values import Tokens

NETWORKS: dict[int, Callable[..., torchvision.models.ResNet]] = {
    18: torchvision.models.resnet18,
    34: torchvision.models.resnet34,
    50: torchvision.models.resnet50,
}


class ResidualNetwork(nn.Module):
    """A torchvision ResNet without its classifier; every stage's grid can be read."""

    def __init__(self, *, depth: int, small: bool, norm: str, channels: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        body = NETWORKS[depth](weights=None, norm_layer=norm_layer(norm))
        if small:
            body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        elif channels != 3:
            body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
        pool = nn.Identity() if small else body.maxpool
        self.stem = nn.Sequential(body.conv1, body.bn1, nn.ReLU(inplace=True), pool)
        self.stages = nn.ModuleList([body.layer1, body.layer2, body.layer3, body.layer4])

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        x = self.stem((image - self.mean) / self.std)
        outputs: dict[str, Tensor] = {}
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)
            if f"layers.{number}" in taps:
                outputs[f"layers.{number}"] = x.permute(0, 2, 3, 1)
        return {"pooled": x.mean(dim=(2, 3)), "grid": x.permute(0, 2, 3, 1), **outputs}


class FourBlocks(nn.Module):
    """Four blocks of convolution, norm, ReLU and pooling."""

    def __init__(self, *, width: int, norm: str, pool: str, channels: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std, self.pool = mean, std, pool
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels if i == 0 else width, width, 3, padding=1),
                    norm_layer(norm)(width),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for i in range(4)
            )
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.blocks((image - self.mean) / self.std)
        return {"pooled": x.flatten(1) if self.pool == "flat" else x.mean(dim=(2, 3)), "grid": x.permute(0, 2, 3, 1)}


class ConvolutionsInTime(nn.Module):
    """Layers of convolution along time, layer norm over channels, GELU. What is padding stays zero in all of them."""

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
        # A row of padding alone has no largest token: it gets zeros, as in the mean.
        largest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
        return torch.where(mask.any(1, keepdim=True), largest, 0.0)


def normalized(x: Tensor, mask: Tensor) -> Tensor:
    """Each row of `x` [N, T, C] with mean 0 and standard deviation 1 over what `mask` [N, T] marks; 0 elsewhere."""
    real = mask.unsqueeze(-1).to(x.dtype)
    count = (real.sum(1, keepdim=True) * x.shape[-1]).clamp_min(1)
    centerd = (x - (x * real).sum((1, 2), keepdim=True) / count) * real
    return centerd * ((centerd**2).sum((1, 2), keepdim=True) / count + 1e-6).rsqrt()


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    return nn.BatchNorm2d if norm == "batch" else group_norm


def group_norm(width: int) -> nn.Module:
    """Group norm of 32 groups, or as many as divide the width."""
    return nn.GroupNorm(max(n for n in range(1, 33) if width % n == 0), width)
