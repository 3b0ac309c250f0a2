"""Hidden patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType, Transform


class PatchMask(Transform, name="patch_mask"):
    """Leaves the image or clip unchanged and adds `mask`: bool [H / patch, W / patch], True where a patch is hidden.

    Exactly a share `ratio` of the patches, drawn at random one by one (He et al., MAE, 2022) or, with `block`, as
    squares with a side of `block` patches until the share is reached. A clip has one mask for all frames (a tube). In
    evaluation nothing is hidden.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"mask": TensorType("mask", size=(None, None), dtype="bool")}
    example: ClassVar[str] = "views: {image: {of: image, apply: [{use: patch_mask, patch: 8, ratio: 0.75}]}}"

    patch: int = Field(8, ge=1, le=4096)
    ratio: float = Field(0.75, ge=0, le=1)
    block: int = Field(1, ge=1, le=32, description="side of a hidden square, in patches")

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if fields and (fields[0].modality not in ("image", "video") or fields[0].axes[1:] not in ((), ("frame",))):
            raise ValueError(f"patch_mask needs an image or a clip as its first field, got {fields[0].modality}")
        for field in fields:
            height, width = (*field.size[-3:-1], None, None)[:2]
            if field.modality in ("image", "video") and height is not None and width is not None:
                return {"mask": self.adds["mask"].with_(size=(height // self.patch, width // self.patch))}
        return self.adds

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        first = next(iter(value.values())) if isinstance(value, Mapping) else value
        if not isinstance(first, np.ndarray) or first.ndim not in (3, 4):
            raise ValueError("patch_mask needs an image or a clip")
        height, width = first.shape[-3], first.shape[-2]
        if height % self.patch or width % self.patch:
            raise ValueError(f"an image of {height} x {width} pixels cannot be cut into patches of {self.patch}")
        mask = np.zeros((height // self.patch, width // self.patch), dtype=bool)
        if generator is None:
            return value, {"mask": mask}
        wanted = round(self.ratio * mask.size)
        if self.block == 1:
            mask.reshape(-1)[generator.permutation(mask.size)[:wanted]] = True
            return value, {"mask": mask}
        for at in generator.permutation(mask.size).tolist():
            if mask.sum() >= wanted:
                break
            row, column = divmod(at, mask.shape[1])
            mask[row : row + self.block, column : column + self.block] = True
        hidden = np.flatnonzero(mask)
        mask.reshape(-1)[hidden[generator.permutation(len(hidden))[wanted:]]] = False
        return value, {"mask": mask}
