"""Check and time every Triton kernel on a GPU; needs torch, triton and numpy only.

    python -m benchmarks.kernels.gpu                    checks, then times
    python -m benchmarks.kernels.gpu --only checks
    python -m benchmarks.kernels.gpu --only times --sizes 4096 16384 --dims 512

Checks compare values and gradients with the float64 definition and run everything twice for equal bits; one that fails
ends the script with 1. Times are medians over CUDA events, also as TFLOP/s of the products that the loss must do
(4 of 2 N^2 D for InfoNCE in both directions, 3 for the sigmoid loss) and as a share of what this card reaches in
`torch.mm` of the same depth D, next to open_clip's form of the loss under autocast and to torch.compile.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from mmflow.kernels import (
    gram_volume,
    info_nce,
    match_log_probability,
    max_sim,
    nearest_center,
    sample_contrast,
    sigmoid_contrast,
    sinkhorn,
    soft_contrast,
    soft_dtw,
    top_k,
    uniformity,
)

Case = tuple[str, Callable[..., Tensor], list[Tensor], float]
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}


def unit(*shape: int, seed: int, dtype: torch.dtype = torch.float32, device: str = "cuda") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(device, dtype).requires_grad_()


SIZES = ((1, 1, 8), (333, 333, 40), (1000, 1000, 768), (129, 2049, 512))


def contrast_cases(device: str, sizes: tuple[tuple[int, int, int], ...] = SIZES, side: int = 700) -> Iterator[Case]:
    for dtype, limit in LIMITS.items():
        for n, m, d in sizes:
            x, y = unit(n, d, seed=0, dtype=dtype, device=device), unit(m, d, seed=1, dtype=dtype, device=device)
            a, b = unit(n, d, seed=2, dtype=dtype, device=device), unit(m, d, seed=3, dtype=dtype, device=device)
            t = torch.tensor(0.05, device=device, requires_grad=True)
            ids = {"x_ids": torch.arange(n, device=device) % 50, "y_ids": torch.arange(m, device=device) % 50}
            title = f"{n} x {m} x {d} {str(dtype)[6:]}"
            for rules in ({}, ids) if n == m else (ids,):
                yield f"info_nce {title} {'by ids' if rules else ''}", _loss(info_nce, rules), [x, y, t], limit
                yield f"sigmoid {title} {'by ids' if rules else ''}", _loss(sigmoid_contrast, rules), [x, y, t], limit
            yield f"info_nce {title} inside", _loss(info_nce, {"positives": "inside", **ids}), [x, y, t], limit
            yield f"soft_contrast {title}", _taught(a, b, {}), [x, y, t], limit
            yield f"soft_contrast {title} top 5", _taught(a, b, {"top_k": 5}), [x, y, t], limit
    x, y, a, b = (unit(side, 64, seed=k, device=device) for k in range(4))
    where = torch.arange(side, device=device)
    yield "info_nce, one shift is too narrow", _loss(info_nce, {}), [x, y, _scalar(0.002, device)], 1e-4
    yield "soft_contrast, one shift is too narrow", _taught(a, b, {}), [x, y, _scalar(0.002, device)], 1e-4
    inside = {"positives": "inside", "x_ids": where % 50}
    yield "info_nce inside, one shift is too narrow", _loss(info_nce, inside), [x, y, _scalar(0.002, device)], 1e-4
    yield "info_nce, scale 100", _loss(info_nce, {}), [x, y, _scalar(0.01, device)], 1e-5
    yield "info_nce, duplicated rows", _loss(info_nce, {}), [x, x, _scalar(0.01, device)], 1e-4
    options = {"label_smoothing": 0.1, "positive_in_denominator": False, "directions": "forward"}
    yield "info_nce, decoupled and smoothed", _loss(info_nce, options), [x, y, _scalar(0.05, device)], 1e-5
    weights = torch.rand(side, side, generator=torch.Generator().manual_seed(4)).to(device)
    for name, given in (("", weights), (" of one row", weights[:1].expand(side, side)), (" of 0 and 1", weights > 0.5)):
        for loss in (info_nce, sigmoid_contrast):
            title = f"{loss.__name__}, weights of pairs{name}"
            yield title, _loss(loss, {"pair_weights": given}), [x, y, _scalar(0.05, device)], 1e-5
    per_column = (torch.rand(side, generator=torch.Generator().manual_seed(2)) * 0.2 + 0.03).to(device).requires_grad_()
    yield "info_nce, temperature per column", _loss(info_nce, {}), [x, y, per_column], 1e-5
    absent = {"x_present": where % 3 > 0, "y_present": torch.zeros(side, device=device) > 0}
    yield "info_nce, all absent", _loss(info_nce, absent), [x, y, _scalar(0.05, device)], 1e-5
    tied = unit(side, 64, seed=5, device=device).detach()[where // 10]
    yield "soft_contrast, ties at the bar", _taught(tied, tied, {"top_k": 4}), [x, y, _scalar(0.05, device)], 1e-5
    yield from split_cases(device, [x, y, _scalar(0.05, device)], a, b)


def split_cases(device: str, leaves: list[Tensor], a: Tensor, b: Tensor) -> Iterator[Case]:
    """The blocks of a split batch, over a group of this process alone."""
    if not dist.is_available():
        print("left out: torch.distributed is not in this build of torch")
        return
    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        for mode in ("ring", "gather"):
            split = {"group": dist.group.WORLD, "exchange": mode}
            yield f"info_nce over ranks, {mode}", _loss(info_nce, split), leaves, 1e-5
            yield f"sigmoid_contrast over ranks, {mode}", _loss(sigmoid_contrast, split), leaves, 1e-5
            yield f"soft_contrast over ranks, {mode}", _taught(a, b, split), leaves, 1e-5
        dist.destroy_process_group()


def _scalar(value: float, device: str) -> Tensor:
    return torch.tensor(value, device=device, requires_grad=True)


def _loss(function: Callable[..., Tensor], options: dict) -> Callable[..., Tensor]:
    def call(x: Tensor, y: Tensor, t: Tensor, backend: str) -> Tensor:
        given = {k: v for k, v in options.items() if k not in ("group", "exchange") or backend != "reference"}
        return function(x, y, temperature=t, backend=backend, **given)

    return call


def _taught(a: Tensor, b: Tensor, options: dict) -> Callable[..., Tensor]:
    def loss(x: Tensor, y: Tensor, **given) -> Tensor:
        own = (v.detach().to(torch.promote_types(v.dtype, x.dtype)) for v in (a, b))
        return soft_contrast(x, y, *own, teacher_temperature=0.05, **given)

    return _loss(loss, options)


def relative_cases(device: str) -> Iterator[Case]:
    """The other operations."""

    def late(x: Tensor, y: Tensor, backend: str) -> Tensor:
        return torch.cat([v.flatten() for v in max_sim(x, y, backend=backend)])

    def soft(x: Tensor, y: Tensor, backend: str) -> Tensor:
        return torch.cat([v.flatten() for v in max_sim(x, y, inner_temperature=0.1, backend=backend)])

    for n, p, t, d in ((5, 7, 3, 16), (64, 49, 32, 256)):
        x, y = unit(n, p, d, seed=0, device=device), unit(n, t, d, seed=1, device=device)
        yield f"max_sim {n} x ({p}, {t}) x {d}", late, [x, y], 1e-5
        yield f"max_sim, soft {n} x ({p}, {t}) x {d}", soft, [x, y], 1e-5

    def gram(a: Tensor, b: Tensor, c: Tensor, backend: str) -> Tensor:
        return gram_volume(a, (b, c), backend=backend)

    yield "gram_volume 200 x 3", gram, [unit(200, 64, seed=k, device=device) for k in range(3)], 1e-4

    def warp(cost: Tensor, backend: str) -> Tensor:
        return soft_dtw(cost, 0.1, backend=backend)

    cost = torch.rand(65, 31, 32, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    yield "soft_dtw 65 x 31 x 32", warp, [cost], 1e-4

    def search(q: Tensor, g: Tensor, backend: str) -> Tensor:
        return top_k(q, g, 10, backend=backend)[0]

    def leave_one_out(q: Tensor, g: Tensor, backend: str) -> Tensor:
        entries = torch.arange(len(q), device=q.device)
        return top_k(q, g, 100, exclude=entries, query_ids=entries % 9, gallery_ids=entries % 9, backend=backend)[0]

    for dtype in LIMITS:
        for n, m, d in ((100, 5000, 64), (1, 1000, 100), (777, 70001, 257)):
            queries, gallery = (unit(r, d, seed=r, dtype=dtype, device=device).detach() for r in (n, m))
            yield f"top_k {n} of {m} x {d} {str(dtype)[6:]}", search, [queries, gallery], 1e-5
    rows = unit(3001, 64, seed=0, device=device).detach()
    yield "top_k, a hundred of the others, by ids", leave_one_out, [rows, rows], 1e-5

    def nearest(x: Tensor, centers: Tensor, backend: str) -> Tensor:
        return nearest_center(x, centers, backend=backend)[1]

    for n, k, d in ((1, 1, 8), (5000, 333, 100), (4096, 1000, 512)):
        rows, centers = unit(n, d, seed=0, device=device).detach(), unit(k, d, seed=1, device=device).detach()
        yield f"nearest_center {n} of {k} x {d}", nearest, [rows, centers], 1e-5

    def plan(scores: Tensor, backend: str) -> Tensor:
        return torch.cat([v.flatten() for v in sinkhorn(scores, iterations=20, backend=backend)[:2]])

    scores = (unit(300, 32, seed=0, device=device) @ unit(200, 32, seed=1, device=device).T).detach()
    yield "sinkhorn 300 x 200", plan, [scores], 1e-4
    yield "sinkhorn 6 x 50 x 200", plan, [scores.view(6, 50, 200)], 1e-4

    def spread(x: Tensor, backend: str) -> Tensor:
        return uniformity(x, backend=backend)

    yield "uniformity 500 x 64", spread, [unit(500, 64, seed=0, device=device)], 1e-5
    yield "uniformity 1001 x 100", spread, [unit(1001, 100, seed=1, device=device)], 1e-5

    def match(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor, backend: str) -> Tensor:
        return torch.cat([v.flatten() for v in match_log_probability(x, y, scale, shift, backend=backend)])

    for n, m, j, k, d in ((3, 5, 1, 9, 20), (33, 40, 7, 7, 64)):
        x, y = unit(n, j, d, seed=0, device=device), unit(m, k, d, seed=1, device=device)
        title = f"match_log_probability {n} x {m} x ({j}, {k}) x {d}"
        yield title, match, [x, y, _scalar(5.0, device), _scalar(4.0, device)], 1e-4
    x, y = unit(40, 7, 64, seed=0, device=device), unit(40, 7, 64, seed=1, device=device)
    leaves = [x, y, _scalar(5.0, device), _scalar(4.0, device)]
    yield "sample_contrast 40 x (7, 7) x 64", sample_contrast, leaves, 1e-4


def check(device: str) -> bool:
    good = True
    for title, function, inputs, limit in chain(contrast_cases(device), relative_cases(device)):
        try:
            found, again = _run(function, inputs, "triton"), _run(function, inputs, "triton")
        except Exception as reason:
            if isinstance(reason, ValueError) and "triton form cannot run" in str(reason):
                print(f"  left out  {title}: {reason}")
                continue
            print(f"  FAILED    {title}: {type(reason).__name__}: {str(reason)[:300]}")
            good = False
            continue
        # a matrix that is given twice stays one
        exact = {id(t): t.detach().double().requires_grad_(t.requires_grad) for t in inputs}
        truth = _run(function, [exact[id(t)] for t in inputs], "reference")
        error = max(_distance(a, b) for a, b in zip(found, truth, strict=True))
        same = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
        passed = error < limit and same
        good = good and passed
        note = "" if same else "  other bits the second time"
        print(f"  {'ok' if passed else 'FAILED':<10}{title:<60}{error:.1e}{note}")
    return good


def _run(function: Callable[..., Tensor], inputs: list[Tensor], backend: str) -> list[Tensor]:
    value = function(*inputs, backend=backend)
    wanted = [t for t in inputs if t.requires_grad]
    if not wanted or not value.requires_grad:
        return [value.detach()]
    weights = torch.linspace(0.5, 1.5, value.numel(), device=value.device, dtype=value.dtype).view(value.shape)
    # one matrix on both sides: its gradient is asked for once
    unique = list({id(t): t for t in wanted}.values())
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), unique)]


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    if not bool(torch.isfinite(a).all()):
        return float("inf")
    return float((a - b).norm() / b.norm().clamp_min(1e-2 if b.dim() else 0.1))


def clip_two_matrices(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """open_clip's form on one GPU: both matrices of logits, in bfloat16 under autocast."""
    with torch.autocast("cuda", torch.bfloat16):
        forward, backward = scale * x @ y.T, scale * y @ x.T
        here = torch.arange(len(x), device=x.device)
        return (F.cross_entropy(forward, here) + F.cross_entropy(backward, here)) / 2


def clip_one_matrix(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits = scale * (x @ y.T).float()
    here = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2


def seconds(step: Callable[[], object], rounds: int = 10) -> float:
    for _ in range(3):
        step()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def times(sizes: list[int], dims: list[int]) -> None:
    for d in dims:
        side = 16384
        a, b = unit(side, d, seed=0, dtype=torch.bfloat16), unit(side, d, seed=1, dtype=torch.bfloat16)
        out = torch.empty(side, side, dtype=torch.bfloat16, device="cuda")
        with torch.no_grad():
            rate = 2 * side * side * d / seconds(lambda a=a, b=b, out=out: torch.mm(a, b.T, out=out))
        del out
        print(f"\nD = {d}: torch.mm reaches {rate / 1e12:.0f} TFLOP/s at this depth (bfloat16, {side} x {side})")
        print(f"  {'':<34}{'N':>8}{'ms':>10}{'TFLOP/s':>10}{'share':>8}{'peak MB':>10}")
        for n in sizes:
            x, y = unit(n, d, seed=0, dtype=torch.bfloat16), unit(n, d, seed=1, dtype=torch.bfloat16)
            scale = torch.tensor(14.3, device="cuda", requires_grad=True)
            bias = torch.tensor(-10.0, device="cuda", requires_grad=True)
            graph = torch.compile(clip_one_matrix, dynamic=False)
            contenders: dict[str, tuple[int, Callable[[], Tensor]]] = {
                "mmflow info_nce": (4, lambda x=x, y=y, s=scale: info_nce(x, y, temperature=1 / s)),
                "mmflow sigmoid_contrast": (
                    3, lambda x=x, y=y, s=scale, b=bias: sigmoid_contrast(x, y, temperature=1 / s, bias=b)
                ),
                "open_clip's form, autocast": (4, lambda x=x, y=y, s=scale: clip_two_matrices(x, y, s)),
                "torch.compile, one matrix": (4, lambda x=x, y=y, s=scale, f=graph: f(x, y, s)),
            }  # fmt: skip
            for name, (products, loss) in contenders.items():
                _time_one(name, loss, [x, y, scale, bias], n, products * 2 * n * n * d, rate)


def _time_one(name: str, loss: Callable[[], Tensor], leaves: list[Tensor], n: int, work: int, rate: float) -> None:
    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss().backward()

    try:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        took = seconds(step)
        peak = torch.cuda.max_memory_allocated() - before
    except torch.OutOfMemoryError:
        print(f"  {name:<34}{n:>8}  out of memory")
        return
    share = work / took / rate
    print(
        f"  {name:<34}{n:>8}{took * 1e3:>10.3f}{work / took / 1e12:>10.0f}{share:>8.0%}{peak / 1e6:>10.1f}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", choices=["checks", "times"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512, 1024])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: the Triton kernels are checked on the CPU by tests/kernels, in Triton's interpreter")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    good = True
    if arguments.only != "times":
        print("\nchecks: largest relative distance to the float64 definition")
        good = check("cuda")
    if arguments.only != "checks":
        times(arguments.sizes, arguments.dims)
    sys.exit(0 if good else "\nsome checks FAILED")


if __name__ == "__main__":
    main()
