"""Labels as texts."""

from __future__ import annotations

from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType, Transform


class ClassName(Transform, name="class_name"):
    """A label as text: the name of its class, or its entry in `names`, which follow the numbers of the labels."""

    example: ClassVar[str] = "views: {word: {of: label, apply: [class_name]}}"

    names: tuple[str, ...] = Field((), description="by default the names that the data gives")

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("class_name takes one field: give it a view of its own")
        if isinstance(value, list):
            return [None if member is None else self.apply(member, generator) for member in value]
        if not 0 <= int(value) < len(self.names):
            raise ValueError(f"label {int(value)} has no name among {len(self.names)}")
        return self.names[int(value)]

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "label":
            raise ValueError(f"class_name needs a label, got {field.modality}")
        if not field.names and not self.names:
            raise ValueError("class_name needs names: the label has none")
        if self.names and field.names and len(field.names) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(field.names)} classes")
        if field.names != self.names and set(field.names) == set(self.names):
            raise ValueError(f"the names are in another order than the classes: {', '.join(field.names)}")
        return TensorType("text", field.axes, groups=field.groups)

    def fitted(self, *fields: TensorType) -> ClassName:
        return self if self.names else self.model_copy(update={"names": fields[0].names})
