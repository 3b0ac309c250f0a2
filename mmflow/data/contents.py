"""What samples hold, as digests: to find equal ones without keeping them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from mmflow.plugin.samples import read_sample

if TYPE_CHECKING:
    from mmflow.plugin.kinds import Source
    from mmflow.plugin.values import RawValue


def digests(source: Source, fields: Sequence[str], at: Sequence[int]) -> dict[str, bytes]:
    """The contents of the samples at `at` in `fields`, by id; equal ones have equal digests. Needs random access.

    Samples that hold none of `fields` are left out: what is absent is equal to nothing.
    """
    reader = source.open()
    found: dict[str, bytes] = {}
    for index in at:
        sample = read_sample(reader, index, fields)
        if all(sample.get(field) is None for field in fields):
            continue
        digest = blake2b(digest_size=16)
        for field in fields:
            _add(digest, sample.get(field))
        found[reader.id(index)] = digest.digest()
    return found


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` samples from all over `count`."""
    looked = min(count, most)
    return sorted({number * (count - 1) // max(1, looked - 1) for number in range(looked)})


def _add(digest: blake2b, value: RawValue) -> None:
    import numpy as np

    if hasattr(value, "cpu"):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode("utf-8", "surrogatepass"))
