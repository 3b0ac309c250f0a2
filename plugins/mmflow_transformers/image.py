"""Images by a transformers image processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mmflow_pretrained.images import LibraryImage, Size

from mmflow.plugin import Field
from mmflow_transformers.loading import load


class HfImage(LibraryImage, name="hf_image"):
    """Images by the image processor of a transformers model, the same in training and evaluation."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "views: {ready: {of: image, apply: [flip, {use: hf_image, hub: ./clip-tiny}]}}"

    revision: str | None = Field(None, description="of the hub's repository")

    def made(self, training: bool) -> Callable[[Any], Any]:
        processor = load("AutoImageProcessor", self.hub, self.revision)
        return lambda image: processor(image, return_tensors="pt")["pixel_values"][0]

    def size(self) -> Size:
        processor = load("AutoImageProcessor", self.hub, self.revision)
        cropped = getattr(processor, "do_center_crop", False)
        size: Any = processor.crop_size if cropped else processor.size if getattr(processor, "do_resize", False) else {}
        return size.get("height"), size.get("width")
