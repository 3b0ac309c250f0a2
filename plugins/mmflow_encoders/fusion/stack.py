"""Vectors along a group axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import (
    ComponentError,
    Encoder,
    Pooled,
    RawField,
    Refs,
    TensorType,
)
from mmflow_encoders.inputs import GROUPS, MOST

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Stack(Encoder, name="stack"):
    """Vectors stacked along a group axis: [N, D] and [N, G, D] give 1 and G places. No weights."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector", "logits"),) * MOST
    axes: ClassVar[tuple[str, ...]] = GROUPS
    example: ClassVar[str] = "{use: stack, of: [body, body_small], axis: copy}"

    of: Refs[Pooled | RawField] = Field(min_length=1, max_length=MOST)
    axis: Literal["copy", "frame", "caption", "candidate", "object", "item", "step"] = Field(
        "copy", description="of the result"
    )

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        places: int | None = 0
        for given in inputs:
            if given.axes[1:] not in ((), (self.axis,)):
                raise ComponentError(
                    f"stack along {self.axis!r} meets another axis",
                    found=f"an input with the axes {', '.join(given.axes)}",
                    expected=f"vectors with no group axis or with {self.axis!r} alone",
                )
            own = 1 if len(given.axes) == 1 else given.groups[0] if given.groups else None
            places = None if places is None or own is None else places + own
        first = inputs[0]
        widths = {given.size[-1] for given in inputs if given.size and given.size[-1] is not None}
        if len(widths) > 1:
            raise ComponentError("stack needs inputs of one width", found=" and ".join(map(str, sorted(widths))))
        return {"pooled": TensorType("vector", (first.axes[0], self.axis), first.size, groups=(places,))}

    def apply(self, *inputs: Tensor) -> Tensor:
        import torch

        return torch.cat([x.unsqueeze(1) if x.ndim == 2 else x for x in inputs], dim=1)

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        import torch

        if all(encoding.present is None for encoding in inputs):
            return None
        members: list[Tensor] = []
        for encoding in inputs:
            vectors = next(iter(encoding.outputs.values()))
            places = 1 if len(encoding.axes) == 1 else vectors.shape[1]
            here = encoding.present
            if here is None:
                here = torch.ones(len(vectors), places, dtype=torch.bool, device=vectors.device)
            members.append(here.reshape(len(vectors), places))
        return torch.cat(members, dim=1)
