"""Random state by address: what is drawn depends on where it belongs, never on who draws it or when.

The parts of an address (a seed, an epoch, a sample's id, a view, a copy, a place) are hashed; equal parts give
equal draws in every process, on every worker and after every restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def address(*parts: int | str) -> int:
    """A seed in [0, 2**63) for the address `parts`; `1` and `"1"` are different parts, and so are their places."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (int, str)):
            raise TypeError(f"part {part!r} of an address is neither an int nor a str")
        text = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else str(part).encode()
        digest.update(b"%c%d:" % (b"s" if isinstance(part, str) else b"i", len(text)))
        digest.update(text)
    return int.from_bytes(digest.digest(), "little") & (2**63 - 1)


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator that stands at the address `parts`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(address(*parts)))


@contextmanager
def global_generators(seed: int | None) -> Iterator[None]:
    """Let code that draws from the global generators (Python's, numpy's, torch's on the CPU) draw from `seed`, a number
    in [0, 2**32), and leave those as they were; None leaves them alone."""
    if seed is None:
        yield
        return
    import random

    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])
