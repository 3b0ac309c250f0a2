"""One row of the table of reference numbers: a function of a folder, and how its arrays reach our components."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from mmflow.plugin import Encoder, Loss, Memory
from mmflow.testing import Agreement, Arrays, compute_sum
from mmflow.testing.compute import Input

VARIABLE = "MMFLOW_ORACLES"
SHARED = Path(__file__).parents[3] / "shared" / "oracles"


@dataclass(frozen=True)
class Row:
    """The arrays of `folder`, all files `STEM.npz` and `STEM--case.npz`, through `run`.

    `run` renames, reshapes and configures; it computes nothing that a component should.
    """

    folder: str
    stem: str
    run: Callable[[Arrays], Iterator[Agreement]]
    components: tuple[str, ...]
    """The components that it tests (`loss/infonce`), or functions of ours that they stand on."""

    def files(self, root: Path) -> list[Path]:
        folder = root / self.folder
        return sorted([*folder.glob(f"{self.stem}.npz"), *folder.glob(f"{self.stem}--*.npz")])


def root() -> Path:
    """The folder of reference numbers: that of the environment, else the shared one."""
    return Path(os.environ.get(VARIABLE) or SHARED)


Part: TypeAlias = tuple[str, Callable[[Tensor], Tensor]]
"""The name of an array, and how a part of it is cut out."""


def of_losses(
    file: Arrays, losses: Mapping[str, Loss], inputs: Mapping[str, Input], gradients: Mapping[str, str | Part],
    *, value: str = "loss", values: Mapping[str, str] | None = None, tolerance: float = 1e-6, released: bool = False,
    nodes: Mapping[str, Encoder | Memory] | None = None, weights: Mapping[str, Tensor] | None = None,
) -> Iterator[Agreement]:  # fmt: skip
    """The weighted sum of losses with its gradients: `gradients` gives the array's name for each input, `values` the
    one of single losses before their weights."""
    found = compute_sum(losses, inputs, nodes=nodes or {}, weights=weights or {})
    yield Agreement(value, found.total, file.result(value, released=released), tolerance)
    for name, array in (values or {}).items():
        yield Agreement(array, found.values[name], file.result(array, released=released), tolerance)
    for name, part in gradients.items():
        array, cut = (part, None) if isinstance(part, str) else part
        if f"grad_{array}" in file or f"card_grad_{array}" in file:
            wanted = file.gradient(array, released=released)
            wanted = cut(wanted) if cut is not None else wanted
            yield Agreement(f"grad_{array} ({name})", found.gradients[name].reshape(wanted.shape), wanted, tolerance)
