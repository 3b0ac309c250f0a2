"""A transform of one's own, for `views`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import Transform


class CLASS(Transform, name="NAME"):
    """Numbers scaled by a random factor of [1 - by, 1 + by]; as they are in evaluation.

    Say here what the transform does. It draws from `generator` alone, which has an address by the sample's id.
    """

    example: ClassVar[str] = "{of: series, apply: [{use: NAME, by: 0.2}]}"

    by: float = Field(0.1, ge=0, lt=1, description="largest relative change")

    def apply(self, value: Any, generator: Any) -> Any:
        """One value of the field; `generator` is a numpy generator, None in evaluation."""
        if generator is None:
            return value
        return (value * (1 + generator.uniform(-self.by, self.by))).astype(value.dtype)
