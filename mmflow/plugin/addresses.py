"""Random state by address: a draw depends on the place that it belongs to, never on the process or the time.

The parts of an address (a seed, an epoch, a sample's id, a view, a copy, a place) are hashed; equal parts give
equal draws in every process, on every worker and after every restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def address(*parts: int | str) -> int:
    """A seed in [0, 2**63) for the address `parts`; `1` and `"1"` are different parts, and so are their places."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(_written(part))
    return int.from_bytes(digest.digest(), "little") & (2**63 - 1)


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator that stands at the address `parts`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(address(*parts)))


class Address:
    """The beginning of addresses at which draws are made by the thousand: it is hashed once.

    Its generators begin at the hash itself; `numpy_generator` first hands it to numpy's own, slower mixing of seeds.
    """

    __slots__ = ("_digest",)

    def __init__(self, *parts: int | str) -> None:
        self._digest = hashlib.blake2b(_written_all(*parts), digest_size=32)

    def at(self, *parts: int | str) -> Address:
        """The address that goes on with `parts`."""
        further = object.__new__(Address)
        further._digest = self._digest.copy()
        further._digest.update(_written_all(*parts))
        return further

    def generator(self) -> np.random.Generator:
        """A numpy generator that stands here."""
        generator, bits, hashed = _numpy()
        return generator(bits(hashed(self._digest.digest())))


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


def _written(part: int | str) -> bytes:
    if isinstance(part, str):
        text = part.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(text), text)
    if isinstance(part, bool) or not isinstance(part, int):
        raise TypeError(f"part {part!r} of an address is neither an int nor a str")
    text = b"%d" % part
    return b"i%d:%b" % (len(text), text)


@lru_cache(maxsize=4096, typed=True)
def _written_all(*parts: int | str) -> bytes:
    return b"".join(map(_written, parts))


@cache
def _numpy() -> tuple[Any, Any, Any]:
    import numpy as np
    from numpy.random.bit_generator import ISeedSequence

    class Hashed(ISeedSequence):
        """A hash that is a seed as it stands."""

        def __init__(self, digest: bytes) -> None:
            self.digest = digest

        def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
            return np.frombuffer(self.digest, dtype, n_words)

    return np.random.Generator, np.random.PCG64, Hashed
