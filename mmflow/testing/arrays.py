"""Reference numbers in files: one `.npz` is one call of a function, with its inputs, options, results and gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Arrays:
    """One call: `in_X` inputs, `opt_X` options, `out_X` results, `grad_X` gradients; `card_X` a value to follow.

    Floating arrays are read in float64. Raises `KeyError` with the file and the names that it has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self._arrays = {name: np.asarray(file[name]) for name in file.files}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def input(self, name: str) -> Tensor:
        """The array `in_NAME`."""
        return _tensor(self._array(f"in_{name}"))

    def texts(self, name: str, group: str = "in") -> list[str]:
        """An array of texts, flat."""
        return [str(text) for text in self._array(f"{group}_{name}").ravel()]

    def option(self, name: str) -> float | int | str | bool:
        """The scalar `opt_NAME` as a plain value."""
        return self._array(f"opt_{name}").item()

    def number(self, name: str) -> float:
        """The scalar `opt_NAME`."""
        return float(self._array(f"opt_{name}"))

    def result(self, name: str, *, released: bool = False) -> Tensor:
        """`card_NAME` where the file has it, else `out_NAME`; with `released` always the latter."""
        card = f"card_{name}"
        return _tensor(self._array(card if card in self._arrays and not released else f"out_{name}"))

    def gradient(self, name: str, *, released: bool = False) -> Tensor:
        """`card_grad_NAME` where the file has it, else `grad_NAME`."""
        card = f"card_grad_{name}"
        return _tensor(self._array(card if card in self._arrays and not released else f"grad_{name}"))

    def names(self, group: str) -> Iterator[str]:
        """The names of the arrays `GROUP_NAME`."""
        yield from (name.removeprefix(f"{group}_") for name in self._arrays if name.startswith(f"{group}_"))

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise KeyError(f"{self.path.name} has no {name}; it has {', '.join(sorted(self._arrays))}")
        return self._arrays[name]


@dataclass(frozen=True)
class Agreement:
    """A value that was computed and the one in the file."""

    name: str
    computed: Tensor
    wanted: Tensor
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.computed.shape != self.wanted.shape:
            shapes = f"{list(self.computed.shape)}, wanted {list(self.wanted.shape)}"
            raise AssertionError(f"{self.name}: computed a value of shape {shapes}")

    @property
    def difference(self) -> float:
        """The largest difference, relative to the larger of 1 and the largest wanted value; `inf` for one-sided NaN."""
        computed, wanted = self.computed.double(), self.wanted.double()
        same = (computed == wanted) | (computed.isnan() & wanted.isnan())
        apart = torch.where(same, 0.0, (computed - wanted).abs()).nan_to_num(float("inf"), float("inf"))
        scale = max(1.0, float(wanted[wanted.isfinite()].abs().amax())) if wanted.isfinite().any() else 1.0
        return float(apart.amax()) / scale if apart.numel() else 0.0


def disagreements(found: Iterable[Agreement]) -> list[str]:
    """A line for each value that is farther from its file than its tolerance."""
    return [
        f"{each.name}: off by {each.difference:.3g}, allowed {each.tolerance:.3g}"
        for each in found
        if not each.difference <= each.tolerance
    ]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)
