"""How probably two items given by samples match: distances of all pairs of samples, summed inside the log."""

import torch
from torch import Tensor

from ..dispatch import choose


def match_log_probability(
    x: Tensor, y: Tensor, scale: float | Tensor, shift: float | Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Log of the probability that item i of x matches item j of y, and of its complement (PCME: Chun et al., 2021).

        p[i, j] = mean_{k, l} sigmoid(2 (shift - scale sqrt(|x[i, k] - y[j, l]|^2 + 1e-6)))

    Args:
        x: samples [N, J, D]. y: samples [M, K, D]. Any floating dtype; mixed dtypes are promoted.
        scale, shift: numbers or tensors [] (learned).

    Returns:
        log p, log (1 - p), each [N, M], float32 (float64 for float64 inputs). Gradients for x, y, scale and shift.

    Distances are formed from inner products: where two samples are nearer than about a thousandth of the spread of all
    samples, float32 shows the rounding of the squared norms.

    Cost: 2 N J M K D FLOP forward, twice to three times that backward. Memory: tiles; distances of samples
    (N J M K) are not stored beyond 16 MB; the Triton form stores none forward and up to 64 MB backward, and takes at
    most 64 samples an item.
    """
    tensors = _inputs("match_log_probability", x, y, scale, shift)
    form = choose("match_log_probability", x, y, backend=backend, without_triton=_without_triton(x, y))
    with torch.autocast(x.device.type, enabled=False):
        if form == "reference":
            from .reference import match_log_probability as reference

            return reference(*tensors)
        if form == "triton":
            from .fused import match_log_probability as run
        else:
            from .chunked import match_log_probability as run
        return run(*tensors)


def sample_contrast(
    x: Tensor, y: Tensor, scale: float | Tensor, shift: float | Tensor, *, backend: str | None = None
) -> Tensor:
    """Soft contrastive loss over `match_log_probability`: -sum_i log p[i, i] - sum_{i != j} log (1 - p[i, j]).

    The sum over all pairs, one direction (PCME adds the other, which is equal: Chun et al., 2021).

    Args:
        x, y, scale, shift: as in `match_log_probability`, N = M.

    Returns:
        [], float32 (float64 for float64 inputs). Gradients for x, y, scale and shift.

    Cost: one pass over the pairs for value and gradients, 6 N^2 J K D FLOP. Memory: tiles; no N x M
    numbers are stored.
    """
    if len(x) != len(y):
        raise ValueError(f"sample_contrast: {len(x)} and {len(y)} items; item i of x matches item i of y")
    tensors = _inputs("sample_contrast", x, y, scale, shift)
    form = choose("sample_contrast", x, y, backend=backend, without_triton=_without_triton(x, y))
    with torch.autocast(x.device.type, enabled=False):
        if form == "reference":
            from .reference import sample_contrast as reference

            return reference(*tensors)
        if form == "triton":
            from .fused import sample_contrast as run
        else:
            from .chunked import sample_contrast as run
        return run(*tensors)


def _without_triton(x: Tensor, y: Tensor) -> str:
    most = max(x.shape[1], y.shape[1])
    return f"an item has {most} samples; it takes at most 64" if most > 64 else ""


def _inputs(name: str, x: Tensor, y: Tensor, scale: float | Tensor, shift: float | Tensor) -> tuple[Tensor, ...]:
    if x.dim() != 3 or y.dim() != 3 or x.shape[2] != y.shape[2] or not x.numel() or not y.numel():
        raise ValueError(
            f"{name}: samples are [N, J, D] and [M, K, D] and not empty, got {list(x.shape)} and {list(y.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    learned = (torch.as_tensor(v, dtype=dtype, device=x.device) for v in (scale, shift))
    return x.to(dtype), y.to(dtype), *learned
