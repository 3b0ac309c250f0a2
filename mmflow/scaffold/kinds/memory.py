"""A memory of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Encoding, Memory, TensorType

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CLASS(Memory, name="NAME"):
    """The mean vector of the rows seen so far, as an exponential average.

    Say here what the memory keeps, with the paper.
    """

    example: ClassVar[str] = "{use: NAME, of: text, momentum: 0.9}"

    momentum: float = Field(0.9, ge=0, lt=1, description="share of the mean that a step keeps")

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        """The first state; every tensor in it is stored in checkpoints."""
        import torch

        state: dict[str, Tensor] = {"steps": torch.zeros((), dtype=torch.int64)}
        return state | {name: torch.zeros(1, declared.size[0] or 1) for name, declared in columns.items()}

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state after a step; `columns` hold the rows [N, D] of the global batch."""
        next_state = {"steps": state["steps"] + 1}
        for name, rows in columns.items():
            mean = rows.mean(0, keepdim=True)
            kept = self.momentum * state[name] + (1 - self.momentum) * mean
            next_state[name] = mean if int(state["steps"]) == 0 else kept
        return next_state

    def entries(self) -> int:
        return 1

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        """What a loss sees [K, D] by column; None before the first step."""
        if int(state["steps"]) == 0:
            return None
        return {name: Encoding({"pooled": rows}) for name, rows in state.items() if name != "steps"}
