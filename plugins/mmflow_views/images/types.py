"""Declared types and sizes that image transforms share."""

from __future__ import annotations

from typing import Annotated

from mmflow.plugin import Field, TensorType

Side = Annotated[int, Field(ge=1, le=8192)]


Size = Side | tuple[Side, Side]


BOX = TensorType("boxes", size=(4,))
