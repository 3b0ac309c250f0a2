"""A plugin as another package would hold it: the modality `points`, a source that has it, an encoder that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import (
    Encoder,
    Modality,
    PositiveInt,
    RawValue,
    Reader,
    Shown,
    Source,
    TensorType,
    Tokens,
    address,
    hookimpl,
    numpy_generator,
)

if TYPE_CHECKING:
    import torch

SHAPES = ("ball", "stick", "disc")


class Points(Modality, name="points"):
    """A cloud of points [P, 3], as many as there are."""

    form: ClassVar[str] = "float32 array [P, 3]"
    role: ClassVar[Any] = "raw"
    ragged: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        if getattr(value, "ndim", 0) != 2 or value.shape[1] != 3:
            raise ValueError(f"{type(value).__name__}, not {self.form}")

    def present(self, value: RawValue) -> bool:
        return value is not None and len(value) > 0

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        return Shown("points", [(float(x), float(y)) for x, y, _ in value[:200]])


class Clouds:
    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return self.size

    def id(self, index: int) -> str:
        return f"cloud-{self.seed}-{index}"

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        import numpy as np

        generator = numpy_generator(self.seed, "cloud", index)
        kind = address(self.seed, "kind", index) % len(SHAPES)
        spread = np.array([(1.0, 1.0, 1.0), (3.0, 0.1, 0.1), (2.0, 2.0, 0.1)][kind])
        # Every 16th sensor saw nothing.
        count = 0 if index % 16 == 15 else int(generator.integers(20, 60))
        points = (generator.normal(size=(count, 3)) * spread).astype(np.float32)
        return {"cloud": points, "caption": f"points like a {SHAPES[kind]}", "kind": kind}

    def static(self) -> Mapping[str, Any]:
        return {}


class PointClouds(Source, name="point_clouds"):
    """Clouds in the form of a ball, a stick or a disc, with captions."""

    size: PositiveInt = 256
    seed: int = 0
    modality: str = "points"

    def fields(self) -> Mapping[str, TensorType]:
        return {
            "cloud": TensorType(self.modality, size=(None, 3)),
            "caption": TensorType("text"),
            "kind": TensorType("label", dtype="int64", names=SHAPES),
        }

    def open(self) -> Reader:
        return Clouds(self.size, self.seed)


class DeepSet(Encoder, name="deep_set"):
    """The mean of an encoding of each point (Zaheer et al., 2017, Deep Sets)."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("points",),)
    width: PositiveInt = 32

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", inputs[0].axes, (self.width,), groups=inputs[0].groups)}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        import torch

        class Net(torch.nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.each = torch.nn.Sequential(
                    torch.nn.Linear(6, width), torch.nn.GELU(), torch.nn.Linear(width, width)
                )

            def forward(self, cloud: Tokens) -> torch.Tensor:
                mask = cloud.mask[..., None].float()
                found = self.each(torch.cat([cloud.values, cloud.values.square()], dim=-1)) * mask
                return found.sum(1) / mask.sum(1).clamp(min=1)

        return Net(self.width)


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "modality/points": "point_clouds:Points",
        "source/point_clouds": "point_clouds:PointClouds",
        "encoder/deep_set": "point_clouds:DeepSet",
    }
