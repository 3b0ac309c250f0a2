"""Vectors of a file in few bytes: codes as they are written, and what they give back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from mmflow.kernels import binary_codes, binary_values, int8_codes, int8_ranges, int8_values

if TYPE_CHECKING:
    import numpy as np

Form = Literal["int8", "binary"]
CALIBRATED = 10_000
"""Rows that say between which values int8 codes lie; later ones outside get the nearest."""


class Coded(TypedDict):
    """How the vectors of an encoder are coded in a file."""

    to: Form
    dim: int
    start: NotRequired[list[float]]
    step: NotRequired[list[float]]


class Coder:
    """Codes the vectors of one encoder, batch by batch. Rows are held back until it has seen enough of them."""

    def __init__(self, to: Form) -> None:
        self.to: Form = to
        self.about: Coded | None = None
        self._held: list[Tensor] = []

    def add(self, vectors: Tensor) -> Iterator[np.ndarray]:
        """Batches [n, ...] of codes as floats, NaN in absent rows, in the order in which vectors [n, D] came."""
        self._held.append(vectors.float())
        if self.about is not None or self.to == "binary" or sum(map(len, self._held)) >= CALIBRATED:
            yield from self.rest()

    def rest(self) -> Iterator[np.ndarray]:
        """Batches that were held back."""
        held, self._held = self._held, []
        if held and self.about is None:
            self.about = self._begun(torch.cat(held))
        for vectors in held:
            gone = vectors.isnan().any(1, keepdim=True)
            codes = self._codes(vectors.nan_to_num()).float()
            yield codes.masked_fill(gone, torch.nan).numpy()

    def _begun(self, seen: Tensor) -> Coded:
        if self.to == "binary":
            return {"to": self.to, "dim": seen.shape[1]}
        there = seen[~seen.isnan().any(1)]
        start, step = int8_ranges(there if len(there) else torch.zeros(1, seen.shape[1]))
        return {"to": self.to, "dim": seen.shape[1], "start": start.tolist(), "step": step.tolist()}

    def _codes(self, vectors: Tensor) -> Tensor:
        if self.to == "binary":
            return binary_codes(vectors)
        return int8_codes(vectors, *_range(self.about))


def decoded(codes: np.ndarray, about: Coded) -> np.ndarray:
    """Vectors [N, D] float32 of codes [N, ...] that are floats, NaN in absent rows; bits as 0 and 1."""
    given = torch.from_numpy(codes)
    gone, plain = given.isnan().any(1, keepdim=True), given.nan_to_num()
    if about["to"] == "binary":
        found = binary_values(plain.to(torch.uint8), about["dim"])
    else:
        found = int8_values(plain.to(torch.int8), *_range(about))
    return found.masked_fill(gone, torch.nan).numpy()


def _range(about: Coded | None) -> tuple[Tensor, Tensor]:
    assert about is not None
    return torch.tensor(about.get("start", [])), torch.tensor(about.get("step", []))
