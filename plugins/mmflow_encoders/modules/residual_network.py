"""The module of `resnet`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torchvision.models
from torch import Tensor, nn

from mmflow_encoders.modules.norms import norm_layer

NETWORKS: dict[int, Callable[..., torchvision.models.ResNet]] = {
    18: torchvision.models.resnet18,
    34: torchvision.models.resnet34,
    50: torchvision.models.resnet50,
    101: torchvision.models.resnet101,
    152: torchvision.models.resnet152,
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
