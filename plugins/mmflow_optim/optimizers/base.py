"""Weight decay, which all optimizers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mmflow.plugin import Optimizer

if TYPE_CHECKING:
    from torch import Tensor


Share = Annotated[float, Field(ge=0, lt=1)]


class Decayed(Optimizer):
    """Base of the optimizers: the choice of parameters that decay."""

    weight_decay: float = Field(
        0.0, ge=0, le=1e6, description="share of a weight that decays in a step, times the learning rate"
    )
    decay_1d: bool = Field(False, description="whether parameters of one dimension or none (biases, norms) decay too")

    def decayed(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The groups with `weight_decay` set, each cut in two where some of its parameters do not decay."""
        result: list[dict[str, Any]] = []
        for group in groups:
            decay = group.get("weight_decay")
            decay = self.weight_decay if decay is None else decay
            parameters = list(group["params"])
            matrices = [p for p in parameters if self.decay_1d or p.ndim > 1]
            others = [p for p in parameters if not (self.decay_1d or p.ndim > 1)]
            for part, own in ((matrices, decay), (others, 0.0)):
                if part:
                    result.append({**group, "params": part, "weight_decay": own})
        return result


def fusable(groups: list[dict[str, Any]]) -> bool:
    """Whether torch's fused kernels accept all parameters."""
    parameters: list[Tensor] = [p for group in groups for p in group["params"]]
    return bool(parameters) and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
