"""Compare `mmflow.kernels` with other libraries: time, peak memory, ratio, error; as a table, a JSON file and a plot.

    python -m benchmarks.kernels                        every operation at its default sizes
    python -m benchmarks.kernels info_nce --sizes 4096 8192 --rounds 5
    python -m benchmarks.kernels info_nce --device cuda --dtype bfloat16

Libraries that are not installed are named as skipped. See `measure` for how the figures are taken.
"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from .contenders import OPERATIONS
from .measure import Result, compare, ratio


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "operations", nargs="*", metavar="OPERATION", help=f"of {', '.join(OPERATIONS)}; all by default"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help="batch sizes; the operation's own by default")
    parser.add_argument("--dim", type=int, help="features")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose name contains one of these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"],
        help="cpu: seconds of the processor, fair on a machine that others use when --threads is 1",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="measure the error against mmflow in float64 too")
    parser.add_argument("--out", type=Path, default=Path("runs/kernels"), help="folder for kernels.json and .png")
    arguments = parser.parse_args()
    for name in arguments.operations:
        if name not in OPERATIONS:
            parser.error(f"unknown operation {name!r}; known are {', '.join(OPERATIONS)}")
    print(
        f"torch {torch.__version__}, {arguments.device} {platform.machine()}, {arguments.threads} threads, "
        f"{arguments.clock} clock, {arguments.rounds} rounds"
    )
    measured: dict[str, dict[int, list[Result]]] = {}
    for name in arguments.operations or OPERATIONS:
        measured[name] = {}
        for size in arguments.sizes or OPERATIONS[name].sizes:
            measured[name][size] = results = one(name, size, arguments)
            print(table(name, size, results), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = {name: {size: [asdict(r) for r in rs] for size, rs in sizes.items()} for name, sizes in measured.items()}
    (arguments.out / "kernels.json").write_text(json.dumps(record, indent=1))
    plot(measured, arguments.out / "kernels.png")


def one(name: str, size: int, arguments: argparse.Namespace) -> list[Result]:
    operation = OPERATIONS[name]
    names, left_out = [], []
    for contender in operation.contenders:
        chosen = not arguments.only or contender == "mmflow" or any(word in contender for word in arguments.only)
        if chosen and size > operation.largest.get(contender, size):
            left_out.append(Result(contender, skipped="too large for it"))
        elif chosen:
            names.append(contender)
    dim, dtype = arguments.dim or operation.dim, getattr(torch, arguments.dtype)
    results = compare(
        name, size, dim, dtype, arguments.device, names, arguments.rounds, arguments.threads, arguments.clock,
        arguments.check,
    )  # fmt: skip
    return results + left_out


def table(name: str, size: int, results: list[Result]) -> str:
    ours = results[0]
    lines = [f"\n{name}, size {size}", f"  {'':<28}{'median ms':>11}{'of mmflow':>11}{'peak MB':>10}{'error':>10}"]
    for r in results:
        if r.skipped:
            lines.append(f"  {r.name:<28}skipped: {r.skipped}")
            continue
        error = "" if r.error is None else f"{r.error:.1e}"
        times = f"{ratio(r, ours):.2f}x" if not ours.skipped else ""
        lines.append(f"  {r.name:<28}{r.time * 1e3:>11.1f}{times:>11}{r.memory / 1e6:>10.1f}{error:>10}")
    return "\n".join(lines)


def plot(measured: dict[str, dict[int, list[Result]]], path: Path) -> None:
    try:
        import matplotlib.pyplot as plt  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    figure, axes = plt.subplots(2, len(measured), figsize=(3.6 * len(measured), 6), squeeze=False, layout="constrained")
    for column, (name, sizes) in enumerate(measured.items()):
        lines: dict[str, list[tuple[int, Result]]] = {}
        for size, results in sizes.items():
            for r in results:
                if not r.skipped:
                    lines.setdefault(r.name, []).append((size, r))
        for line, points in lines.items():
            xs = [size for size, _ in points]
            axes[0, column].plot(xs, [r.time * 1e3 for _, r in points], marker="o", label=line)
            axes[1, column].plot(xs, [max(r.memory, 1e5) / 1e6 for _, r in points], marker="o")
        axes[0, column].set(title=name, ylabel="median ms" if column == 0 else "")
        axes[0, column].legend(fontsize=6)
        axes[1, column].set(xlabel="size", ylabel="peak MB above the inputs" if column == 0 else "")
        for axis in axes[:, column]:
            axis.set(xscale="log", yscale="log")
    figure.savefig(path, dpi=120)
    print(f"\nplot and figures: {path.parent}")


if __name__ == "__main__":
    main()
