"""Initial weights."""

from __future__ import annotations

from torch import nn


def initialize(module: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases (as in GPT; Radford et al., 2018)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
