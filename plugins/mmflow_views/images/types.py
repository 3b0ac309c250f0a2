"""Declared types and sizes that image transforms share."""

from __future__ import annotations

from typing import Annotated

from mmflow.plugin import Field, TensorType

Side = Annotated[int, Field(ge=1, le=8192)]


Size = Side | tuple[Side, Side]


BOX = TensorType("boxes", size=(4,))


def refuse_floats(use: str, *fields: TensorType) -> None:
    """Raise `ValueError` for images that are declared as floats, which no transform of bytes would change."""
    for field in fields:
        if field.modality in ("image", "video") and field.dtype.startswith("float"):
            raise ValueError(
                f"{use} changes images of bytes (uint8), and gets {field.dtype}: write it before the transform that "
                "makes floats (`normalize`, `mixup` or the preprocessing of a model), or declare a source's images of "
                "bytes as uint8"
            )
