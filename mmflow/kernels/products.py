"""Matrix products of tiles on the CPU by the library that is fastest there, and on any device by torch.

In float32 PyTorch calls MKL, whose AVX-512 code is kept from processors that are not Intel's; oneDNN, which every x86
build of torch carries too, is not so choosy. The choice depends on the machine alone, so that results repeat.

`torch.set_float32_matmul_precision("medium")` is the opt-in to bfloat16 arithmetic: torch then multiplies in bfloat16
where the CPU has units for it, and `times` with `coarse=True` does so on every CPU with bfloat16 instructions.
"""

import functools
from pathlib import Path

import torch
from torch import Tensor


def times(a: Tensor, b: Tensor) -> Tensor:
    """a [n, k] times b [k, m], never in autocast's dtype."""
    if torch.is_autocast_enabled(a.device.type):
        with torch.autocast(a.device.type, enabled=False):
            return times(a, b)
    if a.shape[0] >= 128 and _by_onednn(a, b):
        return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return torch.mm(a, b)


def times_transposed(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a [n, k] times b [m, k] transposed, in `out` where that saves an allocation; never in autocast's dtype."""
    if torch.is_autocast_enabled(a.device.type):
        with torch.autocast(a.device.type, enabled=False):
            return times_transposed(a, b, out)
    if _by_onednn(a, b):
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return torch.mm(a, b.T, out=out)


def add_times(total: Tensor, a: Tensor, b: Tensor, coarse: bool = False) -> None:
    """total [n, m] += a [n, k] times b [k, m]; with `coarse`, by bfloat16 products where `medium` allows them."""
    if torch.is_autocast_enabled(a.device.type):
        with torch.autocast(a.device.type, enabled=False):
            return add_times(total, a, b, coarse)
    if coarse and a.device.type == "cpu" and a.dtype == torch.float32 and medium():
        total.add_(torch.mm(a.bfloat16(), b.bfloat16()))
    elif _by_onednn(a, b):
        total.add_(torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], ""))
    else:
        total.addmm_(a, b)


def medium() -> bool:
    """Whether bfloat16 products were asked for and this CPU has instructions for them."""
    return torch.get_float32_matmul_precision() == "medium" and _has_bfloat16()


@functools.cache
def _has_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _by_onednn(a: Tensor, b: Tensor) -> bool:
    # below this size the call costs more than the product
    return a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and a.shape[0] >= 128 and _onednn_is_faster()


@functools.cache
def _onednn_is_faster() -> bool:
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    facts = Path("/proc/cpuinfo")
    if not facts.exists() or "GenuineIntel" in facts.read_text(errors="replace"):
        return False
    try:
        probe = torch.eye(128)
        return torch.equal(torch.ops.mkldnn._linear_pointwise(probe, probe, None, "none", [], ""), probe)
    except (AttributeError, RuntimeError):
        return False
