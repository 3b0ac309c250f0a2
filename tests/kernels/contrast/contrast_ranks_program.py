"""Run by every process of `test_contrast_ranks`: compares a split batch with a whole one, exits 1 where they differ.

contrast_ranks_program.py RANK RANKS STORE EXCHANGE FORM
"""

import sys

import torch
import torch.distributed as dist
from torch.nn import functional as F

from mmflow.kernels import info_nce, sigmoid_contrast, soft_contrast


def main(rank: int, ranks: int, store: str, exchange: str, form: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    group = dist.group.WORLD
    assert group is not None
    generator = torch.Generator().manual_seed(0)
    sizes = [5 + 3 * k for k in range(ranks)]
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    n = sum(sizes)
    ids = torch.randint(6, (n,), generator=generator)
    present = torch.rand(n, generator=generator) > 0.2
    weights = torch.rand(n, generator=generator)
    pairs = torch.rand(n, n, generator=generator)
    per_column = torch.rand(n, generator=generator) * 0.2 + 0.05
    a, b = (F.normalize(torch.randn(n, 6, generator=generator), dim=1) for _ in range(2))
    queue = F.normalize(torch.randn(7, 8, generator=generator), dim=1)
    taught = {"x_teacher": a, "y_teacher": b}
    cases = [
        (info_nce, {}, {}),
        (info_nce, {"x_ids": ids, "x_present": present, "y_present": present}, {"label_smoothing": 0.1}),
        (info_nce, {"x_ids": ids}, {"positives": "inside", "exclude": "self"}),
        (info_nce, {"row_weights": weights, "column_weights": weights}, {"reduction": "sum", "negatives": queue}),
        (info_nce, {"pair_weights": pairs}, {"reduction": "none"}),
        (info_nce, {}, {"directions": "backward"}),
        (info_nce, {}, {"directions": "forward", "in_batch": False, "negatives": queue}),
        (info_nce, {"temperature": per_column}, {}),
        (info_nce, {"x_ids": ids}, {"temperature": torch.tensor(0.001), "positives": "inside"}),
        (sigmoid_contrast, {}, {"bias": -2.0}),
        (sigmoid_contrast, {"x_ids": ids, "row_weights": weights}, {"bias": -2.0, "negatives": queue}),
        (sigmoid_contrast, {"temperature": per_column, "pair_weights": pairs}, {"reduction": "none"}),
        (soft_contrast, taught, {"teacher_temperature": 0.1, "hard": 0.2}),
        (soft_contrast, taught, {"teacher_temperature": 0.1, "top_k": 3, "exclude": "self"}),
        (soft_contrast, taught | {"teacher_temperature": per_column, "x_present": present}, {"top_k": 4}),
        (soft_contrast, taught, {"teacher_temperature": 0.1, "top_k": 2, "directions": "backward"}),
    ]
    x = y = torch.zeros(n, 8)
    chunked = [(torch.float64, 1e-12, cases), (torch.float32, 1e-6, cases[::4])]
    for dtype, tolerance, chosen in [(torch.float32, 1e-6, cases)] if form == "triton" else chunked:
        x, y = (F.normalize(torch.randn(n, 8, generator=generator), dim=1).to(dtype) for _ in range(2))
        for number, (loss, split, shared) in enumerate(chosen):
            shared = {"temperature": torch.tensor(0.07)} | shared if "temperature" not in split else shared
            whole = {
                k: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                for k, v in (split | shared).items()
            }
            own = {k: v[mine] if k in split else v for k, v in whole.items()}
            found = differentiate(loss, x[mine], y[mine], own, {"group": group, "exchange": exchange, "backend": form})
            again = differentiate(loss, x[mine], y[mine], own, {"group": group, "exchange": exchange, "backend": form})
            truth = differentiate(loss, x, y, whole, {"backend": form})
            if not all(torch.equal(p, q) for p, q in zip(found, again, strict=True)):
                raise SystemExit(f"case {number} {loss.__name__} {dtype}: other bits the second time")
            value, dx, dy, dt = found
            if "temperature" not in split:
                dist.all_reduce(dt)
                expected_dt = truth[3]
            else:
                expected_dt = truth[3][mine]
            rows = whole.get("reduction") == "none"
            expected = (truth[0][mine] if rows else truth[0], truth[1][mine], truth[2][mine], expected_dt)
            # scores of 1000 carry their rounding
            allowed = tolerance * (100 if whole["temperature"].max() < 0.01 else 1)
            for what, p, q in zip(("loss", "x", "y", "temperature"), (value, dx, dy, dt), expected, strict=True):
                error = float((p - q).norm() / q.norm().clamp_min(1e-3))
                if not error < allowed:
                    raise SystemExit(f"case {number} {loss.__name__} {dtype}: {what} differs by {error}")
    for options, reason in (
        ({"pair_weights": lambda r, c: None}, "pair_weights as a function is not split"),
        ({"pair_weights": pairs[:1, :1]}, f"it is [{sizes[rank]}, {n}]"),
        ({"backend": "reference"}, "the reference form is not split"),
    ):
        try:
            info_nce(x[mine], y[mine], temperature=1.0, group=group, exchange=exchange, **options)
        except ValueError as refusal:
            if reason in str(refusal):
                continue
        raise SystemExit(f"not refused: {reason}")
    dist.destroy_process_group()


def differentiate(loss, x, y, options, how):
    x, y, t = (v.detach().clone().requires_grad_() for v in (x, y, options["temperature"]))
    value = loss(x, y, **{**options, "temperature": t}, **how)
    total = value if value.dim() == 0 else value.square().sum()
    return [value.detach(), *torch.autograd.grad(total, [x, y, t])]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
