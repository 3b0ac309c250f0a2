"""An operation that is compared, the steps of its contenders, and inputs that several operations share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Inputs = dict[str, Any]
Step = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Operation:
    """Attributes:
    sizes: default sizes on the CPU.
    inputs: (size, dim, dtype, device) -> inputs, the same for every contender.
    contenders: by name; "mmflow" comes first.
    largest: sizes above this are not run by the contenders named (memory of its square or cube).
    """

    sizes: tuple[int, ...]
    inputs: Callable[[int, int, torch.dtype, str], Inputs]
    contenders: dict[str, Callable[[Inputs], Step]]
    dim: int = 512
    largest: dict[str, int] = field(default_factory=dict)


def trained(loss: Callable[..., Tensor], *names: str) -> Callable[[Inputs], Step]:
    """A contender that computes a loss of the inputs `names` and the gradients of those that want one."""

    def build(inputs: Inputs) -> Step:
        arguments = [inputs[name] for name in names]
        wanted = {n: t for n, t in zip(names, arguments, strict=True) if isinstance(t, Tensor) and t.requires_grad}

        def step() -> dict[str, Tensor]:
            for tensor in wanted.values():
                tensor.grad = None
            value = loss(*arguments)
            value.backward()
            return {"loss": value.detach()} | {n: t.grad for n, t in wanted.items() if t.grad is not None}

        return step

    return build


def compiled(loss: Callable[..., Tensor], *names: str) -> Callable[[Inputs], Step]:
    return lambda inputs: trained(torch.compile(loss, dynamic=False), *names)(inputs)


@contextmanager
def precision(word: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def medium(build: Callable[[Inputs], Step]) -> Callable[[Inputs], Step]:
    """The same under torch's float32 matmul precision `medium`."""

    def built(inputs: Inputs) -> Step:
        step = build(inputs)

        def run() -> dict[str, Tensor]:
            with precision("medium"):
                return step()

        return run

    return built


def rows(n: int, d: int, seed: int, dtype: torch.dtype, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator), dim=1).to(device, dtype).requires_grad_()


def scalar(value: float, device: str) -> Tensor:
    return torch.tensor(value, device=device, requires_grad=True)


def pair_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    return {
        "x": rows(n, d, 0, dtype, device),
        "y": rows(n, d, 1, dtype, device),
        "scale": scalar(14.3, device),
        "bias": scalar(-10.0, device),
    }
