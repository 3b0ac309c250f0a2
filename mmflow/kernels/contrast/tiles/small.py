"""When a batch is so small that one matrix beats the tiles: the one place that decides.

Streaming costs some hundred microseconds of calls, which a large batch does not notice. Up to `FEWEST` pairs PyTorch's
own operations and their gradients are fastest, since a function with a gradient of its own costs some Python; up to
`LARGEST` one matrix with its gradient saved. Crossovers on one thread at D = 128, forward and backward, by
`python -m benchmarks.kernels info_nce sigmoid_contrast --dim 128 --sizes 8 32 64 128 256 512 768 1024`.
"""

import os

from torch import Tensor

from ...dispatch import VARIABLE

FEWEST = 160 * 160
LARGEST = 512 * 512
"""1 MiB of float32, a quarter of a tile."""


def is_small(x: Tensor, y: Tensor, temperature: float | Tensor, backend: str | None) -> bool:
    """Whether x and y [N, D] are on the CPU, have few pairs and one temperature, and no form was asked for."""
    return (
        backend is None
        and x.shape == y.shape
        and x.dim() == 2
        and 0 < x.shape[0] ** 2 <= LARGEST
        and x.shape[1] > 0
        and x.is_cpu
        and y.is_cpu
        and x.is_floating_point()
        and y.is_floating_point()
        and (not isinstance(temperature, Tensor) or (temperature.dim() == 0 and temperature.is_cpu))
        and VARIABLE not in os.environ
    )
