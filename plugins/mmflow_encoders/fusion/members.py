"""A group of vectors as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import (
    ComponentError,
    Encoded,
    Encoder,
    Refs,
    TensorType,
    Tokens,
)
from mmflow_encoders.inputs import GROUPS

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Members(Encoder, name="members"):
    """The vectors along a group axis (frames, captions, objects) as one vector: [N, G, D] -> [N, D]. No weights.

    Outputs: `pooled` [N, D], the mean or the maximum over the members that are present; `tokens` [N, G, D], all members
    in their order with their mask, as input of a sequence encoder. A row without members is absent.
    """

    axes: ClassVar[tuple[str, ...]] = GROUPS
    example: ClassVar[str] = "{use: members, of: frames, pool: mean}"

    of: Refs[Encoded] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    pool: Literal["mean", "max"] = Field("mean", description="of the members")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        if len(given.axes) != 2:
            raise ComponentError(
                "members takes vectors with one group axis", found=f"the axes {', '.join(given.axes)}",
                expected=f"one of: {', '.join(GROUPS)}",
            )  # fmt: skip
        vector = TensorType("vector", given.axes[:1], given.size)
        count = given.groups[0] if given.groups else None
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(count, *given.size))}

    def apply(self, a: Encoding) -> Mapping[str, Tensor | Tokens]:
        import torch

        x, mask = a.pooled, a.present
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        here = mask.unsqueeze(-1)
        if self.pool == "mean":
            pooled = (x * here).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        else:
            pooled = torch.where(mask.any(1, keepdim=True), x.masked_fill(~here, -torch.inf).amax(1), 0.0)
        return {"pooled": pooled, "tokens": Tokens(x * here, mask)}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        present = inputs[0].present
        return None if present is None else present.any(1)
