"""Run by `test_compiles`: every Triton kernel, compiled for sm_90 without a GPU.

Launches are turned into compilations, so that the operations run on the CPU with whatever their outputs hold. With an
argument, compiles more variants of the contrastive core and prints the registers and spills of each.
"""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tempfile

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmflow import kernels
from mmflow.kernels.cluster.fused import nearest_center
from mmflow.kernels.contrast.pairs import Pairs
from mmflow.kernels.contrast.sigmoid.fused import sigmoid_rows
from mmflow.kernels.contrast.soft.chunked import prepare
from mmflow.kernels.contrast.soft.fused import Teacher, add_sums
from mmflow.kernels.contrast.softmax.fused import softmax_sums
from mmflow.kernels.contrast.sums import Want
from mmflow.kernels.dtw.fused import soft_dtw
from mmflow.kernels.gaussian_potential.fused import uniformity
from mmflow.kernels.gram.fused import gram_volume
from mmflow.kernels.late_interaction.fused import max_sim
from mmflow.kernels.sample_distance.fused import sample_contrast
from mmflow.kernels.search.fused import top_k
from mmflow.kernels.transport.fused import sinkhorn

N, D = 300, 512
# what a program on compute capability 9.0 may take at most
SHARED_BYTES = 227 << 10
compiled: dict[str, str] = {}
launched: set[str] = set()


class Hopper:
    """What Triton asks a driver for before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_only(self: JITFunction, *args, grid, warmup: bool = False, **kwargs):
    kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
    assert kernel is not None
    assert "cubin" in kernel.asm
    assert kernel.metadata.shared <= SHARED_BYTES, (self.fn.__name__, kernel.metadata.shared)
    launched.add(f"{self.fn.__module__}.{self.fn.__name__}")
    compiled[f"{self.fn.__name__} {len(compiled)}"] = kernel.asm["ptx"]
    return kernel


def kernels_with_launches() -> set[str]:
    """The kernels that some line of the package launches; other functions are parts of them."""
    found = set()
    for module in pkgutil.walk_packages(kernels.__path__, "mmflow.kernels."):
        code = importlib.import_module(module.name)
        of_module = {k for k, v in vars(code).items() if isinstance(v, JITFunction) and v.fn.__module__ == module.name}
        found |= {f"{module.name}.{name}" for name in of_module if re.search(rf"\b{name}\[", inspect.getsource(code))}
    return found


def differentiate(sums, inputs: list[Tensor]) -> None:
    values = [v for side in sums if side is not None for v in side if v is not None and v.requires_grad]
    torch.autograd.grad(torch.stack([v.nan_to_num().sum() for v in values]).sum(), inputs)


def contrast(more: bool) -> None:
    ids, present = torch.arange(N) % 7, torch.arange(N) % 5 > 0
    rules = Pairs(
        N, N, "ids", ids, ids, ids, ids, present, present, without_self=True, without_same_view=True,
        without_positives=True, weights=torch.rand(N, N),
    )  # fmt: skip
    plain, everything = Pairs(N, N), Want(True, True, target=True, total=True, inside=True)
    for dtype in (torch.bfloat16, torch.float32) if more else (torch.bfloat16,):
        x, y = (torch.randn(N, D).to(dtype).requires_grad_() for _ in range(2))
        scale, per_column = torch.tensor(10.0, requires_grad=True), torch.rand(N, requires_grad=True)
        bias = torch.tensor(-3.0, requires_grad=True)
        differentiate(softmax_sums(x, y, scale, plain, Want(True, True, target=True)), [x, y, scale])
        loss = sigmoid_rows(x, y, per_column, bias, torch.ones(N), rules, True)
        torch.autograd.grad(loss, [x, y, per_column, bias])
        # with a teacher kernels take the small tiles of float32, on which many branches compile faster
        teacher = Teacher(x.detach(), y.detach(), torch.tensor(20.0), rules, 0.2)
        prepare(teacher, everything, 5, add_sums)
        differentiate(softmax_sums(x, y, per_column, rules, everything, teacher), [x, y, per_column])
        if more:
            differentiate(softmax_sums(x, y, per_column, rules, everything), [x, y, per_column])
            loss = sigmoid_rows(x, y, scale, bias, torch.ones(N), plain, True)
            torch.autograd.grad(loss, [x, y, scale, bias])


def others() -> None:
    x, y = (torch.randn(N, 64, requires_grad=True) for _ in range(2))
    many = x.view(N // 4, 4, 64)
    uniformity(x, 2.0).backward()
    gram_volume(x, many.detach()[:, :2], torch.ones(N // 4), 1e-8).sum().backward()
    sample_contrast(many, many, torch.tensor(5.0), torch.tensor(5.0)).backward()
    for inner in (None, 0.1):
        torch.stack(
            max_sim(many, many, torch.ones(N // 4, 4), torch.ones(N // 4, 4), None, None, inner)
        ).sum().backward()
    ids = torch.arange(N)
    top_k(x.detach(), y.detach(), 10, torch.float32, ids[:, None], ids, ids)
    for features in (None, y.detach()):
        sinkhorn(x.detach(), features, torch.ones(N), torch.ones(N if features is not None else 64), 0.05, 1)
    nearest_center(x.detach(), y.detach())
    soft_dtw(torch.rand(5, 8, 9, requires_grad=True), 0.1, torch.full((5,), 8), torch.full((5,), 9)).sum().backward()


def print_resources() -> None:
    from triton.backends.nvidia.compiler import get_ptxas

    ptxas = get_ptxas(90).path
    for name, ptx in compiled.items():
        with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
            file.write(ptx)
            file.flush()
            command = [ptxas, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        print(
            name, *(line.split(":")[-1].strip() for line in said.splitlines() if "registers" in line or "spill" in line)
        )


if __name__ == "__main__":
    launch = JITFunction.run
    JITFunction.run = compile_only  # pyright: ignore
    driver.set_active(Hopper())  # pyright: ignore
    contrast(more=bool(sys.argv[1:]))
    others()
    if sys.argv[1:]:
        print_resources()
    assert launched == kernels_with_launches(), launched ^ kernels_with_launches()
