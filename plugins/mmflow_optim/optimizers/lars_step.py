"""The torch optimizer of `lars`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class LARS(Optimizer):
    """The optimizer that `lars` declares. The scale is 1 where a weight or gradient is zero."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9, trust: float = 0.001) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
                if parameter.ndim > 1:
                    weight, slope = parameter.norm(), gradient.norm()
                    scaled = group["trust"] * weight / slope
                    gradient = gradient * torch.where((weight > 0) & (slope > 0), scaled, 1.0)
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                state["velocity"].mul_(group["momentum"]).add_(gradient)
                parameter.sub_(group["lr"] * state["velocity"])
        return loss
