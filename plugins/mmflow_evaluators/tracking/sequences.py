"""Tracks as the measures read them: per frame, who is there, who was found, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Frame:
    """Identities int [G] and [D], from 0 without gaps over the sequence, and similarities [G, D] from 0 to 1."""

    true: NDArray[np.int64]
    found: NDArray[np.int64]
    alike: NDArray[np.float64]


@dataclass(frozen=True)
class Tracks:
    """A sequence: its frames, and how many identities there are and were found."""

    frames: tuple[Frame, ...]
    true: int
    found: int

    @property
    def lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Frames of each true and of each found identity."""
        joined = [np.concatenate([[], *(getattr(f, side) for f in self.frames)]) for side in ("true", "found")]
        counts = zip(joined, (self.true, self.found), strict=True)
        a, b = (np.bincount(ids.astype(np.int64), minlength=count) for ids, count in counts)
        return a.astype(np.int64), b.astype(np.int64)


def tracks_of(frames: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Tracks:
    """A sequence from (true identities [G], found identities [D], similarities [G, D]) of each frame, in order.

    Identities are any integers. Raises `ValueError` where an identity stands twice in a frame, or a similarity is NaN
    or outside 0 to 1.
    """
    known: tuple[dict[int, int], dict[int, int]] = ({}, {})
    read = []
    for number, (true, found, alike) in enumerate(frames):
        sides = []
        for ids, names in zip((true, found), known, strict=True):
            raw = [int(i) for i in np.asarray(ids).reshape(-1)]
            if len(set(raw)) < len(raw):
                raise ValueError(f"an identity stands twice in frame {number}")
            sides.append(np.array([names.setdefault(i, len(names)) for i in raw], dtype=np.int64))
        table = np.asarray(alike, dtype=np.float64).reshape(len(sides[0]), len(sides[1]))
        if not ((table >= 0) & (table <= 1)).all():
            raise ValueError(f"a similarity in frame {number} is not from 0 to 1")
        read.append(Frame(sides[0], sides[1], table))
    return Tracks(tuple(read), len(known[0]), len(known[1]))
