"""The module of `convnet4`."""

from __future__ import annotations

from torch import Tensor, nn

from mmflow_encoders.modules.norms import norm_layer


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
