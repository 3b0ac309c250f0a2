"""Declarations of the encoders that read images, and how an image is made fit for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoder, TensorType
from mmflow_encoders.shapes import check_heads, layer_names, tapped

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class ImageEncoder(Encoder):
    """What all image encoders share: the deterministic way from a raw image to a square of `size`.

    Of a video each frame is encoded: its outputs have the axis `frame`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video"),)

    size: int = Field(64, ge=1, le=4096, description="height and width of the image that is encoded, in pixels")
    fit: Literal["crop", "squash"] = Field(
        "crop", description="crop: scale the shorter side and cut out the center; squash: scale both sides"
    )
    channels: Literal[1, 3] = Field(3, description="of the image that is encoded: gray or color")
    mean: float = Field(0.5, description="subtracted from the image in [0, 1]")
    std: float = Field(0.5, gt=0, description="what the image is divided by after that")

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> np.ndarray:
        return fit_image(value, self.size, self.channels, squash=self.fit == "squash")


class Vit(ImageEncoder, name="vit"):
    """Vision transformer with pre-norm blocks and learned positions (Dosovitskiy et al., 2021).

    Input: image. Outputs: `pooled` [N, width], the class token or the mean of the patches; `tokens` [N, L, width] and
    `grid` [N, size/patch, size/patch, width], the patches after the final norm; taps `layers.1` to `layers.<depth>`,
    the patch tokens after each block.
    """

    example: ClassVar[str] = "{use: vit, of: image, width: 128, depth: 4, head: {use: linear, dim: 128}}"

    patch: int = Field(8, ge=1, description="side of a patch in pixels; must divide size")
    width: int = Field(256, ge=1, description="of tokens and of the pooled vector")
    depth: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide width")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over that of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")
    pool: Literal["cls", "mean"] = Field("mean", description="a class token, or the mean of the patches")

    @model_validator(mode="after")
    def _divisible(self) -> Vit:
        check_heads(self.width, self.heads)
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image, side = inputs[0], self.size // self.patch
        vector = TensorType("vector", image.axes, (self.width,), groups=image.groups)
        tokens = vector.with_(modality="tokens", size=(side * side, self.width))
        grid = vector.with_(modality="grid", size=(side, side, self.width))
        return {"pooled": vector, "tokens": tokens, "grid": grid, **tapped(self.taps(), tokens)}

    def taps(self) -> tuple[str, ...]:
        return layer_names(self.depth)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.transformer import ImageTransformer

        return ImageTransformer(
            size=self.size,
            patch=self.patch,
            channels=self.channels,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
            mean=self.mean,
            std=self.std,
        )


class Resnet(ImageEncoder, name="resnet"):
    """Residual network (He et al., 2016), torchvision's layers with fresh weights.

    Input: image. Outputs: `pooled` [N, C], the mean of the grid; `grid` [N, H, W, C] with C = 512 (depth 18, 34) or
    2048 (50); taps `layers.1` to `layers.4`, the grids of the four stages. `stem: small` is the 3 x 3 first layer
    without pooling for small images (as in the paper's CIFAR networks). With `norm: batch` the running statistics and
    gradients depend on the micro-batch; `norm: group` (Wu and He, 2018) makes every row independent.
    """

    example: ClassVar[str] = "{use: resnet, of: image, depth: 18, stem: small, head: {use: linear, dim: 128}}"

    depth: Literal[18, 34, 50] = Field(18, description="number of layers with weights, as published")
    stem: Literal["large", "small"] = Field("large", description="7 x 7 and pooling, or 3 x 3 for small images")
    norm: Literal["batch", "group"] = Field("batch", description="group: no row depends on another")

    def batch_statistics(self) -> bool:
        return self.norm == "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = inputs[0]
        expansion = 4 if self.depth == 50 else 1
        # The large stem halves the image twice, each later stage once, all rounding up.
        side = self.size if self.stem == "small" else _halved(_halved(self.size))
        grids = {}
        for stage, width in enumerate((64, 128, 256, 512), 1):
            side = side if stage == 1 else _halved(side)
            size = (side, side, width * expansion)
            grids[f"layers.{stage}"] = TensorType("grid", image.axes, size, groups=image.groups)
        last = grids["layers.4"]
        return {"pooled": last.with_(modality="vector", size=last.size[-1:]), "grid": last, **grids}

    def taps(self) -> tuple[str, ...]:
        return layer_names(4)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.convolution import ResidualNetwork

        return ResidualNetwork(
            depth=self.depth, small=self.stem == "small", norm=self.norm, channels=self.channels,
            mean=self.mean, std=self.std,
        )  # fmt: skip


class Convnet4(ImageEncoder, name="convnet4"):
    """Four blocks of 3 x 3 convolution, norm, ReLU and 2 x 2 max pooling: the few-shot network (Snell et al., 2017).

    Input: image. Outputs: `grid` [N, size/16, size/16, width] (rounded down); `pooled` [N, D], the grid flattened, as
    in the paper, or its mean over places with `pool: mean`.
    """

    example: ClassVar[str] = "{use: convnet4, of: image, size: 28, channels: 1}"

    width: int = Field(64, ge=1, description="channels of each block")
    norm: Literal["batch", "group"] = Field("batch", description="group: no row depends on another")
    pool: Literal["flat", "mean"] = Field("flat", description="the grid as one vector, or its mean over places")

    @model_validator(mode="after")
    def _large_enough(self) -> Convnet4:
        if self.size < 16:
            raise ValueError(f"size {self.size} is below 16, and nothing would be left after four poolings")
        return self

    def batch_statistics(self) -> bool:
        return self.norm == "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image, side = inputs[0], self.size // 16
        grid = TensorType("grid", image.axes, (side, side, self.width), groups=image.groups)
        dim = self.width * (side * side if self.pool == "flat" else 1)
        return {"pooled": grid.with_(modality="vector", size=(dim,)), "grid": grid}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.convolution import FourBlocks

        return FourBlocks(
            width=self.width, norm=self.norm, pool=self.pool, channels=self.channels, mean=self.mean, std=self.std
        )


def fit_image(image: Any, size: int, channels: int, *, squash: bool) -> np.ndarray:
    """A raw image (uint8 or float in [0, 1]; HW or HWC) as an array [size, size, channels] of the same type.

    Scaling is bilinear with antialiasing. Gray images get three equal channels; colors become gray by the weights of
    ITU-R BT.601; an alpha channel is dropped. Floats [channels, size, size], as the preprocessing of other libraries
    gives them, stay as they are.
    """
    import numpy as np
    from PIL import Image

    array = np.asarray(image)
    if array.dtype.kind == "f" and array.shape == (channels, size, size):
        return array
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ComponentError(
            f"an image of shape {list(array.shape)}", found=f"{array.dtype} {list(array.shape)}",
            expected="uint8 or float, [height, width] or [height, width, 1, 3 or 4]",
        )  # fmt: skip
    planes = array[:, :, None] if array.ndim == 2 else array[:, :, :3]
    if planes.shape[2] == 3 and channels == 1:
        gray = planes @ np.array([0.299, 0.587, 0.114])
        planes = (np.rint(gray) if array.dtype == np.uint8 else gray).astype(array.dtype)[:, :, None]
    height, width = planes.shape[:2]
    if (height, width) != (size, size):
        if squash:
            box = (0.0, 0.0, float(width), float(height))
        else:
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        planes = np.stack([_scaled(Image.fromarray(p), size, box) for p in np.moveaxis(planes, 2, 0)], axis=2)
    return np.ascontiguousarray(np.broadcast_to(planes, (size, size, channels)))


def _scaled(plane: Any, size: int, box: tuple[float, float, float, float]) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _halved(side: int) -> int:
    return (side + 1) // 2
