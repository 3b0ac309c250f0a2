"""Run by `test_contrast_compiles`: every Triton kernel of the contrastive core, compiled for sm_90 without a GPU.

Launches are turned into compilations, so that the operations run on the CPU with whatever their outputs hold. With an
argument, compiles more variants and prints the registers and spills of each.
"""

import subprocess
import sys
import tempfile

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmflow.kernels.contrast.forms import load
from mmflow.kernels.contrast.pairs import Pairs
from mmflow.kernels.contrast.tiles import Want

N, D = 300, 512
compiled: dict[str, str] = {}


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
    compiled[f"{self.fn.__name__} {len(compiled)}"] = kernel.asm["ptx"]
    return kernel


def differentiate(sums, inputs: list[Tensor]) -> None:
    values = [v for side in sums if side is not None for v in side if v is not None and v.requires_grad]
    torch.autograd.grad(sum(v.nan_to_num().sum() for v in values), inputs)


def main() -> None:
    triton_form = load("triton")
    ids, present = torch.arange(N) % 7, torch.arange(N) % 5 > 0
    rules = Pairs(
        N, N, "ids", ids, ids, ids, ids, present, present, without_self=True, without_same_view=True,
        without_positives=True, weights=torch.rand(N, N),
    )  # fmt: skip
    both = Want(True, True, target=True)
    more = bool(sys.argv[1:])
    for dtype in (torch.bfloat16, torch.float32) if more else (torch.bfloat16,):
        x, y = (torch.randn(N, D).to(dtype).requires_grad_() for _ in range(2))
        scale, per_column = torch.tensor(10.0, requires_grad=True), torch.rand(N, requires_grad=True)
        bias, ones = torch.tensor(-3.0, requires_grad=True), torch.ones(N)
        every_rule = (rules, Want(True, True, target=False, total=True, inside=True), per_column)
        for pairs, want, own in ((Pairs(N, N), both, scale), every_rule) if more else (every_rule,):
            differentiate(triton_form.softmax_sums(x, y, own, pairs, want), [x, y, own])
            loss = triton_form.sigmoid_rows(x, y, own, bias, ones, pairs, True)
            torch.autograd.grad(loss, [x, y, own, bias])
        pairs = Pairs(N, N, x_present=present)
        teacher = triton_form.teacher(x.detach(), y.detach(), torch.tensor(20.0), pairs, 0.2)
        teacher.prepare(both, 5)
        differentiate(triton_form.softmax_sums(x, y, scale, pairs, both, teacher), [x, y, scale])


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
    main()
    if sys.argv[1:]:
        print_resources()
    names = {name.split()[0] for name in compiled}
    assert names == {f"_{k}_kernel" for k in ("sums", "running", "gradient", "accumulate", "sigmoid", "scores")}, names
