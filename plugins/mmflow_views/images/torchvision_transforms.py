"""Transforms of `torchvision.transforms.v2`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType, Transform, global_generators
from mmflow_views.images.base import is_image
from mmflow_views.images.types import refuse_floats

if TYPE_CHECKING:
    import numpy as np


class TorchvisionTransform(Transform):
    """Base of the transforms of torchvision: write `made`. Images and clips stay uint8; all frames of a clip share
    one draw."""

    def made(self) -> Any:
        """torchvision's transform, from a uint8 tensor [..., C, H, W] to one."""
        raise NotImplementedError

    def skips(self, generator: Any) -> bool:
        """Whether nothing is done: in evaluation."""
        return generator is None

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if len(fields) > 1:
            raise ValueError(f"{self.use} takes one field, and the view has {len(fields)}")
        for field in fields:
            if field.modality not in ("image", "video") or field.axes[1:] not in ((), ("frame",)):
                found = " ".join((field.modality, *(f"with the axis {axis}" for axis in field.axes[1:2])))
                raise ValueError(f"{self.use} needs an image or a clip, got {found}")
        refuse_floats(self.use, *fields)
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if isinstance(value, list):
            raise ValueError(f"{self.use} takes images and clips, not groups of them")
        if not isinstance(value, np.ndarray) or not (is_image(value) or (value.dtype == np.uint8 and value.ndim == 4)):
            found = "several fields" if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"{self.use} needs an image or a clip (uint8), got {getattr(value, 'shape', found)}")
        if self.skips(generator):
            return value
        with global_generators(0 if generator is None else int(generator.integers(2**32))):
            return self._run(value)

    def _run(self, value: np.ndarray) -> np.ndarray:
        import numpy as np
        import torch

        changed = self.made()(torch.from_numpy(np.ascontiguousarray(np.moveaxis(value, -1, -3))))
        if not isinstance(changed, torch.Tensor) or changed.dtype != torch.uint8 or changed.ndim != value.ndim:
            found = getattr(changed, "dtype", type(changed).__name__)
            raise ValueError(f"{self.use} must give uint8 images, this transform gives {found}")
        return np.ascontiguousarray(np.moveaxis(changed.numpy(), -3, -1))


class RandAugment(TorchvisionTransform, name="rand_augment"):
    """Some (`operations`) of torchvision's fourteen changes of color and geometry, all of one strength (Cubuk et al.,
    2020). Nothing in evaluation."""

    example: ClassVar[str] = (
        "apply: [{use: random_resized_crop, size: 48}, {use: rand_augment, operations: 2, magnitude: 9}]"
    )

    # YAML 1.1 reads the key `n` as false.
    renamed: ClassVar[Mapping[str, str]] = {"n": "operations"}

    operations: int = Field(2, ge=1, le=14, description="changes of each image")
    magnitude: int = Field(9, ge=0, le=30, description="strength, 30 being the most")

    def made(self) -> Any:
        from torchvision.transforms import v2

        return v2.RandAugment(num_ops=self.operations, magnitude=self.magnitude)


class Torchvision(TorchvisionTransform, name="torchvision"):
    """Any transform of `torchvision.transforms.v2` from uint8 images to uint8 images, by the name of its
    class, with `options` as its arguments. Skipped in evaluation, unless `always`."""

    example: ClassVar[str] = "apply: [{use: torchvision, name: RandomPerspective, options: {distortion_scale: 0.3}}]"

    name: str = Field(description="of a class of torchvision.transforms.v2")
    options: dict[str, Any] = Field({}, description="its arguments")
    always: bool = Field(False, description="in evaluation too; for transforms that draw nothing, such as Pad")

    def skips(self, generator: Any) -> bool:
        return generator is None and not self.always

    def made(self) -> Any:
        from torchvision.transforms import v2

        found = getattr(v2, self.name, None)
        if not (isinstance(found, type) and issubclass(found, v2.Transform)):
            import difflib

            near = ", ".join(difflib.get_close_matches(self.name, v2.__dict__, 3))
            raise ValueError(
                f"torchvision has no transform {self.name!r}" + (f"; did you mean {near}?" if near else "")
            )
        try:
            return found(**self.options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"torchvision's {self.name} refuses these options: {error}") from error

    def result(self, field: TensorType) -> TensorType:
        self.made()
        if field.modality not in ("image", "video") or len(field.size) < 3:
            return field
        return field.with_(size=(*field.size[:-3], None, None, field.size[-1]))
