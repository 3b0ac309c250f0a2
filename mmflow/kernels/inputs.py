"""Checks of inputs that several operations share."""

import torch
from torch import Tensor


def positive(operation: str, temperature: float | Tensor, name: str = "temperature") -> None:
    """Refuses a temperature that is 0 or below.

    A tensor is read where that costs nothing: on the CPU, outside of a trace. A temperature of NaN passes, so that the
    loss shows it.

    Raises:
        ValueError: with the operation and the value.
    """
    if isinstance(temperature, Tensor):
        if type(temperature) not in (Tensor, torch.nn.Parameter) or temperature.device.type != "cpu":
            return
        if torch.compiler.is_compiling() or not temperature.numel():
            return
        least = temperature.detach() if temperature.dim() == 0 else temperature.detach().amin()
        value = float(least)
        wrong = value <= 0
    else:
        value = temperature
        wrong = not value > 0
    if wrong:
        raise ValueError(f"{operation}: {name} is {value}; it is > 0")
